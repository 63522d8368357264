"""The seed of `ants-syn`: how each version of antspyx takes it. Registrations are in tests/scenarios/test_peers.py."""

from __future__ import annotations

from types import SimpleNamespace

from methods.peers.ants_syn import _seed_ants


def registration_of_0_5(fixed: object, random_seed: int | None = None, **more: object) -> None: ...


def registration_of_0_6(fixed: object, **more: object) -> None: ...


def test_a_version_with_the_argument_gets_it() -> None:
    assert _seed_ants(SimpleNamespace(registration=registration_of_0_5), 8) == ({"random_seed": 8}, {})


def test_a_version_that_ignores_the_argument_gets_the_seed_by_its_configuration() -> None:
    calls: list[tuple[bool, int]] = []
    config = SimpleNamespace(set_ants_deterministic=lambda on, seed: calls.append((on, seed)))
    assert _seed_ants(SimpleNamespace(registration=registration_of_0_6, config=config), 8) == ({}, {})
    assert calls == [(True, 8)]


def test_a_version_without_a_seed_is_doubtful() -> None:
    arguments, notes = _seed_ants(SimpleNamespace(registration=registration_of_0_6), 8)
    assert arguments == {}
    assert "takes no random seed" in notes["warning"]

"""Label maps: translation of other schemes to VerSe ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.datasets.io.label_maps import (
    label_map_names,
    parse_ct_label_map,
    parse_label_maps,
    read_label_map,
    translate,
)
from benchmark.errors import BadInput

T1, T12, L1, L5 = 8, 19, 20, 24


@pytest.mark.parametrize("name", label_map_names())
def test_every_map_names_each_vertebra_once(name: str) -> None:
    ids = list(read_label_map(name).values())
    assert len(set(ids)) == len(ids) and set(ids) <= {*range(1, 26), 28}


def test_maps_have_the_ids_of_the_published_schemes() -> None:
    total, spider, spineps = (read_label_map(n) for n in ("totalsegmentator", "spider", "spineps"))
    first, mr = read_label_map("totalsegmentator-1"), read_label_map("totalsegmentator-mr")
    assert (first[18], first[22], first[23], first[41]) == (L5, L1, T12, 1) and 92 not in first
    assert (mr[2], mr[6], mr[7], mr[25]) == (L5, L1, T12, 1) and 1 not in mr
    assert total == read_label_map("totalsegmentator-2")
    assert (total[27], total[31], total[32], total[43], total[50]) == (L5, L1, T12, T1, 1)
    assert 26 not in total and 25 not in total, "S1 and sacrum"
    assert (spider[1], spider[5], spider[6]) == (L5, L1, T12) and 100 not in spider and 201 not in spider
    assert spineps[24] == L5 and 124 not in spineps and 26 not in spineps


def test_ids_that_the_map_does_not_name_become_background() -> None:
    labels = np.array([[[0, 27, 52, 65535]]], np.uint16)
    translated = translate(Path("a"), labels, "totalsegmentator")
    assert translated.dtype == np.uint16
    np.testing.assert_array_equal(translated, [[[0, L5, 0, 0]]])


def test_a_yaml_file_is_a_map(tmp_path: Path) -> None:
    file = tmp_path / "Meine Karte é.yaml"
    file.write_text("# two schemes\n300: 20\n301: 20\n")
    np.testing.assert_array_equal(translate(Path("a"), np.array([300, 301, 2], np.uint16), str(file)), [20, 20, 0])


@pytest.mark.parametrize("content", ["300: 20\r\n301: 20\r\n", '"300": "20"\n301: 20\n', '{"300": 20, "301": 20}'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_map_is_read_as_editors_save_it(tmp_path: Path, content: str, encoding: str) -> None:
    (tmp_path / "map.yaml").write_bytes(content.encode(encoding))
    assert read_label_map(str(tmp_path / "map.yaml")) == {300: 20, 301: 20}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", "expected ids such as 27: 24, found list"),
        ("{}", "expected at least one id"),
        ("L5: 24", "found 'L5': 24"),
        ("27: L5", "found 27: 'L5'"),
        ("27: 0", "found 27: 0"),
        ("27: 70000", "found 27: 70000"),
        ("300;20", "found the text '300;20'"),
        ('27: 24\n"27": 23', "expected one VerSe id for 27, found 24 and 23"),
        ("27: [", "expected ids such as 27: 24"),
    ],
)
def test_files_with_other_content_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "map.yaml").write_text(content)
    with pytest.raises(BadInput, match=f"map.yaml: .*{words}"):
        read_label_map(str(tmp_path / "map.yaml"))


def test_an_unknown_map_and_a_wrong_scheme_are_refused() -> None:
    with pytest.raises(BadInput, match=r"label_map verse: expected a YAML file or one of spider, spineps, totalseg"):
        read_label_map("verse")
    with pytest.raises(BadInput, match=r"mask.nii.gz: expected labels that label_map spider names, found 100, 201;"):
        translate(Path("mask.nii.gz"), np.array([0, 100, 201], np.uint16), "spider")


@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        (None, None), ("verse", None), ("spider", "spider"), ("my maps/a.yaml", "my maps/a.yaml"),
        ("ct=totalsegmentator-2,mr=verse", {"ct": "totalsegmentator-2"}), ("mr=spider", {"mr": "spider"}),
        ("moving=totalsegmentator, fixed=spider", {"ct": "totalsegmentator", "mr": "spider"}),
        ({"ct": "spineps", "mr": "spider"}, {"ct": "spineps", "mr": "spider"}), ({"fixed": "spider"}, {"mr": "spider"}),
        ("ct=verse,mr=verse", None),
    ],
)  # fmt: skip
def test_each_scan_may_have_a_map(typed: object, chosen: object) -> None:
    assert parse_label_maps(typed) == chosen


@pytest.mark.parametrize(
    "typed",
    ["ct: totalsegmentator-2", "ct:spider", "{ct: spider, mr: verse}", "ct=spider,", "ct=", "spider,verse", "cT=a",
     "ct=a,moving=b", "", {"ct": 3}, {"us": "spider"}, ["spider"], 3],
)  # fmt: skip
def test_another_form_is_refused_and_the_right_one_shown(typed: object) -> None:
    with pytest.raises(ValueError, match=r"expected one NAME for both scans, or ct=NAME,mr=NAME \(in YAML \{ct: NAME"):
        parse_label_maps(typed)


def test_an_existing_file_is_a_map_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "a=b, {c}.yaml").touch()
    assert parse_label_maps(str(tmp_path / "a=b, {c}.yaml")) == str(tmp_path / "a=b, {c}.yaml")


def test_a_ct_alone_has_one_map() -> None:
    assert parse_ct_label_map("ct=spineps,mr=verse") == parse_ct_label_map("spineps") == "spineps"
    with pytest.raises(ValueError, match="the CT alone"):
        parse_ct_label_map("mr=spider")

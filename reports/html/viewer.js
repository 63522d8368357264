// The slice viewer: blends the fixed and the warped scan and outlines labels. A case's pictures are parsed when it is opened.
const FIXED = "#56b4e9", WARPED = "#e69f00";

function viewer(root, data, stores) {
  const find = (name) => root.querySelector(name);
  const select = { case: find(".case"), row: find(".row"), image: find(".image") };
  const read = root.querySelector(".read");
  const planes = [...root.querySelectorAll("figure[data-plane]")].map((figure) => ({
    name: figure.dataset.plane, canvas: figure.querySelector("canvas"), slider: figure.querySelector("input"),
    output: figure.querySelector("output"),
  }));
  const grey = { scan: find(".scan"), level: find(".level"), window: find(".window") };
  const shown = { fixed: { level: 128, window: 255 }, moving: { level: 128, window: 255 } };
  let pictures = null, images = new Map(), latestRequest = 0;

  data.cases.forEach((name, i) => select.case.append(new Option(name, i)));

  function image(uri) {
    if (!uri) return Promise.resolve(null);
    if (!images.has(uri)) {
      const made = new Image();
      made.src = uri;
      images.set(uri, made.decode().then(() => made));
    }
    return images.get(uri);
  }

  function showCase() {
    pictures = JSON.parse(stores[Number(select.case.value)].textContent);
    images = new Map();
    const before = select.row.value;
    const rows = data.rows.filter((row) => row.name in pictures.rows);
    select.row.replaceChildren(...rows.map((row) => new Option(row.label, row.name)));
    if (rows.some((row) => row.name === before)) select.row.value = before;
    for (const plane of planes) {
      const kept = pictures[plane.name];
      plane.slider.max = kept.count - 1;
      plane.slider.value = kept.best;
    }
    return draw();
  }

  // Returns one slice of a scan, its grey values from level - window / 2 to level + window / 2 drawn black to white.
  function windowed(sprite, kept, index, { level, window }) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [kept.width, kept.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(sprite, 0, -index * kept.height);
    if (level === 128 && window === 255) return canvas;
    const slice = context.getImageData(0, 0, kept.width, kept.height);
    const table = Uint8ClampedArray.from({ length: 256 }, (_, v) => (255 * (v - level)) / window + 127.5);
    for (let i = 0; i < slice.data.length; i += 4) slice.data.fill(table[slice.data[i]], i, i + 3);
    context.putImageData(slice, 0, 0);
    return canvas;
  }

  // Returns the values of one slice of a label map.
  function labels(sprite, kept, index) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [kept.width, kept.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(sprite, 0, -index * kept.height);
    const pixels = context.getImageData(0, 0, kept.width, kept.height).data;
    return Uint8Array.from({ length: kept.width * kept.height }, (_, i) => pixels[4 * i]);
  }

  // Draws lines between pixels of different labels.
  function outline(context, values, kept, sx, sy, colour) {
    const { width, height } = kept;
    context.beginPath();
    for (let r = 0; r < height; r++) {
      for (let c = 0; c < width; c++) {
        const v = values[r * width + c];
        if (c + 1 < width && v !== values[r * width + c + 1]) {
          context.moveTo((c + 1) * sx, r * sy);
          context.lineTo((c + 1) * sx, (r + 1) * sy);
        }
        if (r + 1 < height && v !== values[(r + 1) * width + c]) {
          context.moveTo(c * sx, (r + 1) * sy);
          context.lineTo((c + 1) * sx, (r + 1) * sy);
        }
      }
    }
    context.strokeStyle = colour;
    context.lineWidth = 1.6;
    context.stroke();
  }

  async function drawPlane(plane, request) {
    const kept = pictures[plane.name];
    const result = (pictures.rows[select.row.value] || {})[plane.name] || {};
    const moving = select.image.value === "moving";
    const index = Number(plane.slider.value);
    const wanted = moving ? [kept.ct, null, kept.moving, null] : [kept.mr, result.ct, kept.fixed, result.labels];
    const [below, above, fixed, warped] = await Promise.all(wanted.map(image));
    if (request !== latestRequest) return;
    const zoom = Math.min(4, 560 / Math.max(kept.width * kept.column_mm, kept.height * kept.row_mm));
    const [sx, sy] = [kept.column_mm * zoom, kept.row_mm * zoom];
    const { canvas } = plane;
    [canvas.width, canvas.height] = [Math.round(kept.width * sx), Math.round(kept.height * sy)];
    const context = canvas.getContext("2d");
    const picture = (sprite, scan) =>
      context.drawImage(windowed(sprite, kept, index, shown[scan]), 0, 0, canvas.width, canvas.height);
    picture(below, moving ? "moving" : "fixed");
    if (above) {
      context.globalAlpha = Number(find(".blend").value) / 100;
      picture(above, "moving");
      context.globalAlpha = 1;
    }
    if (fixed && find(".fixed").checked) outline(context, labels(fixed, kept, index), kept, sx, sy, moving ? WARPED : FIXED);
    if (warped && find(".warped").checked) outline(context, labels(warped, kept, index), kept, sx, sy, WARPED);
    plane.output.textContent = `${index + 1} of ${kept.count}`;
    canvas.setAttribute("aria-label", `${select.case.selectedOptions[0].text}, ${plane.name} slice ${index + 1}`);
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn || 0) + 1);
  }

  async function draw() {
    const request = ++latestRequest;
    const chosen = select.row.selectedOptions[0];
    const result = pictures.rows[select.row.value];
    const warpedKept = Boolean(result && result.sagittal.ct);
    find(".blend").disabled = !warpedKept || select.image.value === "moving";
    const name = select.case.selectedOptions[0].text;
    read.textContent = !chosen
      ? `${name}: no method has a result.`
      : `${name}, ${chosen.text}${warpedKept ? "" : ": the run kept no warped image, only its labels"}`;
    await Promise.all(planes.map((plane) => drawPlane(plane, request)));
  }

  function showGrey() {
    grey.level.value = shown[grey.scan.value].level;
    grey.window.value = shown[grey.scan.value].window;
  }
  function changeGrey(level, window) {
    shown[grey.scan.value] = { level: Number(level), window: Number(window) };
    showGrey();
    draw();
  }
  select.case.addEventListener("change", showCase);
  grey.scan.addEventListener("input", showGrey);
  for (const control of [grey.level, grey.window]) {
    control.addEventListener("input", () => changeGrey(grey.level.value, grey.window.value));
  }
  find(".reset").addEventListener("click", () => changeGrey(128, 255));
  for (const control of root.querySelectorAll(".row, .image, .blend, .fixed, .warped, .slice")) {
    control.addEventListener("input", draw);
  }
  if (data.cases.length) showCase();

  return function open(name, row) {
    const index = data.cases.indexOf(name);
    if (index < 0) return;
    select.case.value = index;
    showCase();
    if ([...select.row.options].some((option) => option.value === row)) {
      select.row.value = row;
      draw();
    } else if (row !== "initial") {
      read.textContent = `${name}: no picture of ${row}.`;
    }
    root.scrollIntoView({ block: "start" });
    select.case.focus({ preventScroll: true });
  };
}

// The page of `posenet-jax explore`: one WebSocket carries requests and news.

const $ = (id) => document.getElementById(id);
const LARGEST_UPLOAD = 10 * 2 ** 20;
const RECIPES = {
  calibrated: "The default: a scale-free loss at a high, decaying rate; recognisable pictures.",
  paper: "Table 1 of the paper, literally.",
  paper_no_prior: "Without priors: descriptors matched closely, pictures of noise.",
  warm: "Started from a decoder's picture in place of noise: it adds what it has learnt of streets.",
  quick: "In waves in place of pixels: large shapes come in the first steps.",
};
const ENCODERS = {
  streetnet: "Trained for the pose between two street views.",
  "streetnet-random-0": "The same network, untrained: the control.",
  rendered: "Trained without photographs.",
  judge: "streetnet from another seed.",
  compact: "A smaller network.",
};

let socket, page, offered;
let running = false;
let given = { first: null, second: null }; // File or name of a bundled picture
let curves = [];
let control = null;
let encoders = {};
let compiled = new Set();

const send = (what) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(what));

function say(sentence, wrong = false) {
  if ($("status").textContent === sentence) return; // or it would be read out at every step
  $("status").textContent = sentence;
  $("status").classList.toggle("wrong", wrong);
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/live`);
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    handlers[message.event]?.(message);
  };
  socket.onclose = () => {
    page = null;
    setRunning(false);
    ready();
    say("Not connected: is posenet-jax explore still running? Trying again …", true);
    setTimeout(connect, 1000);
  };
}

const handlers = {
  hello(message) {
    ({ page } = message);
    if (!offered) {
      offered = message;
      offer();
    }
    for (const place of ["first", "second"]) if (given[place]) give(place, given[place]);
    send({ do: "encoder", encoder: $("encoder").value });
    say("Choose a picture.");
  },
  ready({ programs }) {
    compiled = new Set(programs.map((program) => program.join()));
    tellCompiled();
  },
  encoder(message) {
    encoders[message.name] = message;
    if (message.name !== $("encoder").value) return;
    const chosen = $("layer").value || offered.default.layer;
    const layers = Object.keys(message.layers);
    fill($("layer"), layers, layers.includes(chosen) ? chosen : layers.at(-1));
    layerChosen();
    ready();
  },
  picture(message) {
    if (message.place === "first") {
      show($("original"), message.image, `Original: ${message.name}`);
      $("no-original").hidden = true;
      $("closer").hidden = false;
      show($("pair-first"), message.image, `First: ${message.name}`);
      for (const name of ["decode", "extremes"]) $(`${name}-out`).replaceChildren();
      $("pose-out").hidden = true;
      operate();
      if (!running) say("Press Invert.");
    }
    if (message.place === "second") {
      show($("second"), message.image, `Second: ${message.name}`);
      $("second-caption").textContent = "Second";
      $("pose-out").hidden = true;
      $("pose").disabled = false;
    }
    ready();
  },
  began(message) {
    $("restarts-out").replaceChildren();
    $("restarts-row").hidden = true;
    control = message.control;
    curves = [];
    clearResults(message.restarts);
    $("numbers").hidden = false;
    $("control").textContent = number(control);
  },
  decoded: pictures("decode"),
  restarts: pictures("restarts"),
  extremes: pictures("extremes"),
  operated(message) {
    $("amount-words").textContent = `${amountWords()}: relative loss ${number(message.loss)} to the whole descriptor`;
    $("preview").hidden = !message.image;
    if (message.image) show($("preview-image"), message.image, `Decoded: ${amountWords()}`);
    operating = false;
    if (operateAgain) operate();
  },
  pose(message) {
    $("pose").disabled = false;
    $("pose-wrong").textContent = "";
    poseTable(message);
  },
  progress(message) {
    for (const one of message.restarts) showRestart(one);
    if (message.restarts.length) draw();
    setRunning(!message.ended);
    $("restarts-row").hidden = !message.ended || +$("pictures").dataset.count < 2;
    if (message.failure) say(message.failure, true);
    else if (message.stopped) say("Stopped: the picture is the best so far.");
    else if (message.ended) say("Done.");
    else if (message.compiling) say("Compiling …");
    else if (message.ahead) say(`Waiting for a free slot: ${message.ahead} ahead.`);
    else say("Inverting …");
  },
  error(message) {
    if (message.about === "invert") setRunning(false);
    if (message.about === "operate") operating = operateAgain = false;
    const near = $(`${message.about}-wrong`);
    if (near) {
      near.textContent = message.sentence;
      $(message.about).disabled = false;
    } else say(message.sentence, true);
  },
};

function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen)));
}

function offer() {
  fill($("encoder"), offered.encoders, offered.default.encoder);
  fill($("layer"), [offered.default.layer], offered.default.layer);
  fill($("recipe"), Object.keys(offered.recipes), offered.default.recipe);
  $("demo").replaceChildren(...offered.demo.map((name) => thumb(name, "first")));
  $("demo-2").replaceChildren(...offered.demo.map((name) => thumb(name, "second")));
  about();
}

function thumb(name, place) {
  const button = document.createElement("button");
  const image = document.createElement("img");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  image.src = `/demo/${encodeURIComponent(name)}`;
  image.alt = name.replace(/\.\w+$/, "").replaceAll("_", " ");
  button.append(image);
  button.onclick = () => give(place, name);
  button.dataset.name = name;
  return button;
}

function about() {
  $("about-encoder").textContent = ENCODERS[$("encoder").value] ?? "";
  $("about-recipe").textContent = RECIPES[$("recipe").value] ?? "";
  $("steps").value = offered.recipes[$("recipe").value];
  tellCompiled();
}

async function give(place, what) {
  given[place] = what;
  for (const button of $(place === "first" ? "demo" : "demo-2").children) {
    button.setAttribute("aria-pressed", String(button.dataset.name === what));
  }
  if (typeof what === "string") {
    send({ do: "demo", place, name: what });
    return;
  }
  if (what.size > LARGEST_UPLOAD) {
    say(`${what.name} is larger than 10 MB: make it smaller.`, true);
    return;
  }
  say(`Reading ${what.name} …`);
  try {
    const response = await fetch(`/picture/${place}?name=${encodeURIComponent(what.name)}`, {
      method: "POST",
      headers: { "X-Page": page },
      body: what,
    });
    const answer = await response.json();
    if (answer.error) say(answer.error, true);
  } catch {
    say(`${what.name} could not be sent: is it still there?`, true);
  }
}

function tellCompiled() {
  const chosen = [$("encoder").value, $("layer").value, $("recipe").value].join();
  $("compiling").hidden = running || compiled.has(chosen);
}

function ready() {
  $("go").disabled = !page || $("original").hidden || !$("layer").value;
}

function setRunning(now) {
  running = now;
  $("go").textContent = now ? "Stop" : "Invert";
  $("go").classList.toggle("stop", now);
  document.body.classList.toggle("running", now);
  tellCompiled();
}

function show(image, source, alt) {
  image.src = source;
  image.alt = alt;
  image.hidden = false;
}

function clearResults(count) {
  for (const figure of document.querySelectorAll(".restart")) figure.remove();
  $("empty-result").hidden = false;
  $("no-result").textContent = "Waiting for the first step …";
  $("downloads").replaceChildren();
  $("pictures").dataset.count = count;
  for (const id of ["step", "loss", "error", "state"]) $(id).textContent = "–";
}

function restartFigure(number) {
  let figure = $(`restart-${number}`);
  if (!figure) {
    figure = document.createElement("figure");
    figure.id = `restart-${number}`;
    figure.className = "restart";
    figure.append(document.createElement("img"), document.createElement("figcaption"));
    $("pictures").append(figure);
    $("empty-result").hidden = true;
    downloads();
  }
  return figure;
}

function downloads() {
  const links = [...document.querySelectorAll(".restart")].map((figure) => {
    const number = figure.id.split("-")[1];
    return link(`reconstruction-${number}.png`, `Save picture${curves.length > 1 ? ` ${+number + 1}` : ""}`);
  });
  $("downloads").replaceChildren(...links, link("run.json", "Save numbers"));
}

function link(name, words) {
  const a = document.createElement("a");
  a.href = `/download/${page}/${name}`;
  a.download = name;
  a.textContent = words;
  return a;
}

const number = (value) => (value === null ? "not finite" : value.toPrecision(value < 0.01 ? 2 : 3));

function showRestart(one) {
  (curves[one.number] ??= []).push(...one.curve);
  const figure = restartFigure(one.number);
  const several = +$("pictures").dataset.count > 1;
  const name = several ? `Reconstruction ${one.number + 1}` : "Reconstruction";
  const [image, caption] = figure.children;
  show(image, one.image, `${name} after ${one.steps} steps`);
  caption.textContent = several ? `${name}: relative loss ${number(one.relative_loss)}` : name;
  if (one.number) return;
  $("step").textContent = `${one.steps} of ${one.of}`;
  $("loss").textContent = number(one.relative_loss);
  $("error").textContent = number(one.descriptor_error);
  $("state").textContent = one.status;
}

// The curve: logarithmic, from 1 down to the decade below the least loss.
function draw() {
  const [left, right, top, bottom] = [48, 708, 12, 208];
  const points = curves.flat().filter(([, loss]) => loss > 0);
  if (!points.length) return;
  const last = Math.max(...points.map(([step]) => step), 2);
  const least = Math.min(...points.map(([, loss]) => loss), control || 1);
  const decades = Math.max(1, Math.ceil(-Math.log10(least)));
  const x = (step) => left + ((right - left) * (step - 1)) / (last - 1);
  const y = (loss) => top + ((bottom - top) * -Math.log10(Math.min(loss, 1))) / decades;
  const parts = [];
  for (let i = 0; i <= decades; i++) {
    const height = y(10 ** -i);
    parts.push(svg("line", { x1: left, x2: right, y1: height, y2: height, class: "grid" }));
    parts.push(svg("text", { x: left - 6, y: height + 4, "text-anchor": "end" }, String(+(10 ** -i).toPrecision(1))));
  }
  parts.push(svg("text", { x: left, y: bottom + 22 }, "step 1"));
  parts.push(svg("text", { x: right, y: bottom + 22, "text-anchor": "end" }, String(last)));
  if (control) {
    const height = y(control);
    parts.push(svg("line", { x1: left, x2: right, y1: height, y2: height, class: "other" }));
    parts.push(svg("text", { x: right, y: height - 6, "text-anchor": "end" }, "another picture"));
  }
  curves.forEach((curve, i) => {
    const line = curve.filter(([, loss]) => loss > 0).map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`);
    parts.push(svg("polyline", { points: line.join(" "), class: `line line-${i}` }));
  });
  $("curve").replaceChildren(...parts);
  $("curve").setAttribute("aria-label", `Relative loss by step, at step ${last}: ${number(least)}`);
}

function svg(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

const choice = () => ({
  encoder: $("encoder").value,
  layer: $("layer").value,
  recipe: $("recipe").value,
  steps: $("steps").valueAsNumber,
  seed: $("seed").valueAsNumber,
  restarts: $("restarts").valueAsNumber,
  ...($("operation").value ? { operation: $("operation").value, amount: amount() } : {}),
});

$("controls").onsubmit = (event) => {
  event.preventDefault();
  if (running) {
    send({ do: "stop" });
    return;
  }
  setRunning(true);
  say("Reading the picture's descriptor …");
  send({ do: "invert", ...choice() });
  if (matchMedia("(max-width: 60rem)").matches) $("result").scrollIntoView();
};
$("encoder").onchange = () => {
  about();
  send({ do: "encoder", encoder: $("encoder").value });
};
$("recipe").onchange = about;
$("layer").onchange = layerChosen;

function layerChosen() {
  const decoders = encoders[$("encoder").value]?.layers[$("layer").value] ?? [];
  fill($("decoder"), decoders, decoders[0]);
  $("decode").disabled = !decoders.length;
  $("decode-wrong").textContent = decoders.length ? "" : "There is no decoder for this layer of this encoder.";
  for (const name of ["decode", "extremes"]) $(`${name}-out`).replaceChildren();
  tellCompiled();
  operate();
}

// Closer looks: a button each, and where what it finds is shown.

function pictures(name) {
  return (message) => {
    $(`${name}-out`).replaceChildren(
      ...message.pictures.map(({ caption, image }) => {
        const figure = document.createElement("figure");
        const [img, words] = [document.createElement("img"), document.createElement("figcaption")];
        show(img, image, caption);
        words.textContent = caption;
        figure.append(img, words);
        return figure;
      }),
    );
    const button = $(name === "restarts" ? "mean" : name);
    button.disabled = false;
    const wrong = $(`${name}-wrong`);
    if (wrong) wrong.textContent = "";
  };
}

function look(name, extra = () => ({})) {
  $(name).onclick = () => {
    $(name).disabled = true;
    send({ do: name, ...choice(), ...extra() });
    const out = $(`${name}-out`);
    if (out.tagName === "DIV") {
      const words = document.createElement("p");
      words.textContent = "Computing …";
      out.replaceChildren(words);
    }
  };
}
look("decode", () => ({ decoder: $("decoder").value }));
look("extremes", () => ({ grey_levels: $("levels").valueAsNumber }));
look("pose");
$("mean").onclick = () => send({ do: "restarts" });
$("levels").oninput = () => ($("levels-words").textContent = `${$("levels").value} grey levels`);
$("file-2").onchange = () => $("file-2").files[0] && give("second", $("file-2").files[0]);

const POSE = [
  ["Rotation", (p) => `${p.rotation.toFixed(1)}°`],
  ["yaw, pitch, roll", (p) => p.turns.map((angle) => `${angle.toFixed(1)}°`).join(", ")],
  ["Translation", (p) => `${p.distance.toFixed(1)} m, ${direction(p)}`],
  ["Same target", (p) => `${(100 * p.match).toFixed(0)} %`],
];

function direction({ azimuth, elevation }) {
  const side = azimuth < 0 ? "left" : "right";
  const up = elevation < 0 ? "down" : "up";
  return `${Math.abs(azimuth).toFixed(0)}° to the ${side} of forward, ${Math.abs(elevation).toFixed(0)}° ${up}`;
}

function poseTable({ original, reconstruction, loss }) {
  const columns = [["of the picture", original]];
  if (reconstruction) columns.push(["of its reconstruction", reconstruction]);
  const head = row("th", ["", ...columns.map(([name]) => name)]);
  const body = POSE.map(([name, words]) => row("td", [name, ...columns.map(([, pose]) => words(pose))]));
  body.push(row("td", ["Relative loss between the two", number(loss), ...(reconstruction ? [""] : [])]));
  const [top, rest] = [document.createElement("thead"), document.createElement("tbody")];
  top.append(head);
  rest.append(...body);
  $("pose-out").replaceChildren(top, rest);
  $("pose-out").hidden = false;
}

function row(kind, cells) {
  const line = document.createElement("tr");
  line.append(
    ...cells.map((text, i) => {
      const cell = document.createElement(i ? kind : "th");
      cell.textContent = text;
      return cell;
    }),
  );
  return line;
}

// The operation on the descriptor: its amount on a slider, and what it does at once.

const AMOUNTS = {
  largest: ["Units", [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096], (k) => `${k} largest units kept, the rest zero`],
  random: ["Units", [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096], (k) => `${k} units at random kept, the rest zero`],
  components: ["Components", [1, 2, 4, 8, 16, 32, 64, 79], (k) => `${k} principal component${k > 1 ? "s" : ""} of the bundled pictures and their crops kept, the rest at the mean`],
  quantised: ["Bits", [1, 2, 3, 4, 5, 6, 8], (b) => `${b} bit${b > 1 ? "s" : ""} a unit`],
  noise: ["Noise", [0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2], (d) => `noise of ${d} times the descriptor's length`],
};
let operating = false;
let operateAgain = false;

const amount = () => AMOUNTS[$("operation").value][1][$("amount").valueAsNumber];
const amountWords = () => ($("operation").value ? AMOUNTS[$("operation").value][2](amount()) : "");

function operate() {
  if (!$("operation").value || !page || $("original").hidden) return;
  operateAgain = operating;
  if (operating) return;
  operating = true;
  send({ do: "operate", ...choice() });
}

$("operation").onchange = () => {
  const chosen = $("operation").value;
  $("operating").hidden = !chosen;
  if (!chosen) return;
  const [name, values] = AMOUNTS[chosen];
  $("amount-name").textContent = name;
  $("amount").max = values.length - 1;
  $("amount").value = Math.floor(values.length / 2);
  $("amount").oninput();
};
$("amount").oninput = () => {
  $("amount-words").textContent = amountWords();
  $("amount").setAttribute("aria-valuetext", amountWords());
  operate();
};
$("pixels").onchange = () => $("pictures").classList.toggle("pixelated", $("pixels").checked);
$("file").onchange = () => $("file").files[0] && give("first", $("file").files[0]);

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    if (event.dataTransfer?.files[0] && kind === "drop") give("first", event.dataTransfer.files[0]);
  });
}
document.addEventListener("invalid", ({ target }) => target.closest("details")?.setAttribute("open", ""), true);
connect();

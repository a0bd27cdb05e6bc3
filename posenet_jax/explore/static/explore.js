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

const send = (what) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(what));

function say(sentence, wrong = false) {
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
  encoder(message) {
    encoders[message.name] = message;
    if (message.name !== $("encoder").value) return;
    const chosen = $("layer").value || offered.default.layer;
    const layers = Object.keys(message.layers);
    fill($("layer"), layers, layers.includes(chosen) ? chosen : layers.at(-1));
    ready();
  },
  picture(message) {
    if (message.place === "first") {
      show($("original"), message.image, `Original: ${message.name}`);
      $("no-original").hidden = true;
      if (!running) say("Press Invert.");
    }
    ready();
  },
  began(message) {
    control = message.control;
    curves = [];
    clearResults(message.restarts);
    $("numbers").hidden = false;
    $("control").textContent = number(control);
  },
  progress(message) {
    for (const one of message.restarts) showRestart(one);
    if (message.restarts.length) draw();
    setRunning(!message.ended);
    if (message.failure) say(message.failure, true);
    else if (message.stopped) say("Stopped: the picture is the best so far.");
    else if (message.ended) say("Done.");
    else if (message.compiling) say("Compiling the program of this encoder, layer and recipe: half a minute the first time …");
    else if (message.ahead) say(`Waiting for a free slot: ${message.ahead} ahead.`);
    else say("Inverting …");
  },
  error(message) {
    if (message.about === "invert") setRunning(false);
    say(message.sentence, true);
  },
};

function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value, value, false, value === chosen)));
}

function offer() {
  fill($("encoder"), offered.encoders, offered.default.encoder);
  fill($("recipe"), Object.keys(offered.recipes), offered.default.recipe);
  $("demo").replaceChildren(...offered.demo.map(thumb));
  about();
}

function thumb(name) {
  const button = document.createElement("button");
  const image = document.createElement("img");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  image.src = `/demo/${encodeURIComponent(name)}`;
  image.alt = name.replace(/\.\w+$/, "").replaceAll("_", " ");
  button.append(image);
  button.onclick = () => give("first", name);
  button.dataset.name = name;
  return button;
}

function about() {
  $("about-encoder").textContent = ENCODERS[$("encoder").value] ?? "";
  $("about-recipe").textContent = RECIPES[$("recipe").value] ?? "";
  $("steps").value = offered.recipes[$("recipe").value];
}

async function give(place, what) {
  given[place] = what;
  for (const button of $("demo").children) {
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

function ready() {
  $("go").disabled = !page || $("original").hidden || !$("layer").value;
}

function setRunning(now) {
  running = now;
  $("go").textContent = now ? "Stop" : "Invert";
  $("go").classList.toggle("stop", now);
  document.body.classList.toggle("running", now);
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
connect();

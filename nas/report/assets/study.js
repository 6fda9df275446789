/* The page of one study. It draws the JSON that nas.report.contents wrote and loads nothing, unless the page is
   live (`data-live`): then it requests the contents from its own server every five seconds. */
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const source = $("contents");
  let data = JSON.parse(source.textContent), T, metrics, metricOf, choiceOf;
  const chosen = { index: null, sort: null, falling: false };
  let shown = [], where = () => true;

  function take(next) {
    data = next; T = data.trials; metrics = data.metrics;
    metricOf = Object.fromEntries(metrics.map((m) => [m.name, m]));
    choiceOf = Object.fromEntries(data.choices.map((c, i) => [c.name, { ...c, place: i }]));
  }

  // Small pieces

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in element && name !== "style") element[name] = value; else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }
  const tr = (...cells) => make("tr", {}, ...cells), td = (...children) => make("td", {}, ...children);
  const figure = (...children) => make("td", { className: "number" }, ...children);
  const headings = (...texts) => make("thead", {}, tr(...texts.map((text) => make("th", { scope: "col" }, text))));
  const note = (text) => make("p", { className: "note" }, text);
  const words = (name) => name.replaceAll("_", " ");
  const fill = (id, ...children) => $(id).replaceChildren(...children.filter((child) => child !== null));
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const PREFIXES = { "-3": "n", "-2": "µ", "-1": "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T" };

  function quantity(value, metric) {
    if (value === null || value === undefined) return "–";
    if (metric.share) return `${(100 * value).toFixed(2)} %`;
    let power = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)) / 3 + 1e-12);
    power = Math.max(Math.min(power, 4), -3);
    const scaled = value / 1000 ** power;
    const digits = Math.abs(scaled) < 999.5 ? Number(scaled.toPrecision(3)) : Number(scaled.toPrecision(4));
    return `${digits} ${PREFIXES[power]}${metric.unit === "1" ? "" : metric.unit}`.trim();
  }
  function duration(seconds) {
    const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
    return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole % 3600 / 60))} min`;
  }
  const value = (index, name) => T.values[name][index];
  const withInterval = (index, name) => interval(name, value(index, name), T.low[name]?.[index], T.high[name]?.[index]);
  function interval(name, center, low, high) {
    const metric = metricOf[name], text = quantity(center, metric);
    return low === null || low === undefined || low === high ? text
      : `${text}  [${quantity(low, metric)} to ${quantity(high, metric)}]`;
  }
  const valueOfChoice = (index, choice) => choice.values[T.params[index][choice.place]];
  function standing(index) {
    if (T.front[index]) return data.summary.feasible ? "front" : "beyond";
    if (T.violation[index] > 0) return "beyond";
    if (T.state[index] !== "complete") return T.state[index];
    return T.certainty[index] === "possible" ? "possible" : "dominated";
  }
  const STANDINGS = {
    front: ["on the front", "front", "circle", 10], possible: ["perhaps on the front", "possible", "circle-open", 9],
    dominated: ["dominated", "other", "circle", 5], beyond: ["over a limit", "beyond", "x-thin", 6],
    stopped: ["stopped early", "other", "triangle-down-open", 6], failed: ["failed", "beyond", "square-open", 6],
  };

  // The filter: `metric < 4 ms and choice >= 3`

  const UNITS = { "": 1, "%": 1e-2, n: 1e-9, u: 1e-6, "µ": 1e-6, m: 1e-3, k: 1e3, M: 1e6, G: 1e9 };
  const OPERATORS = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
    "=": (a, b) => String(a) === String(b) || Number(a) === Number(b), "!=": (a, b) => String(a) !== String(b) };
  function number(text, unit) {
    const parts = /^([-+\d.eE]+)\s*(.*)$/.exec(text);
    if (!parts || Number.isNaN(Number(parts[1]))) throw new Error(`“${text}” is not a number`);
    let suffix = parts[2];
    if (unit !== "1" && suffix.endsWith(unit)) suffix = suffix.slice(0, -unit.length);
    if (!(suffix in UNITS)) throw new Error(`“${parts[2]}” is not a unit of this quantity`);
    return Number(parts[1]) * UNITS[suffix];
  }
  function condition(text) {
    const parts = /^\s*([\w.@:-]+?)\s*(<=|>=|!=|<|>|=)\s*(.+?)\s*$/.exec(text);
    if (!parts) throw new Error(`“${text.trim()}” is not like “latency < 4 ms”`);
    const [, name, sign, given] = parts, compare = OPERATORS[sign];
    if (name in metricOf) {
      const bound = number(given, metricOf[name].unit);
      return (i) => value(i, name) !== null && compare(value(i, name), bound);
    }
    if (name in choiceOf) {
      const bound = choiceOf[name].ordered ? number(given, "1") : given;
      return (i) => compare(valueOfChoice(i, choiceOf[name]), bound);
    }
    if (name === "trial") return (i) => compare(T.number[i], number(given, "1"));
    if (name === "state") return (i) => compare(T.state[i], given);
    throw new Error(`there is no “${name}”; there are: ${[...Object.keys(metricOf), ...Object.keys(choiceOf), "trial", "state"].join(", ")}`);
  }
  function readFilter() {
    const text = $("filter").value.trim(), says = $("filter-says");
    try {
      const all = text ? text.split(/\s+and\s+/i).map(condition) : [];
      where = (i) => all.every((holds) => holds(i));
      shown = T.number.map((_, i) => i).filter(where);
      says.textContent = text ? `${shown.length} of ${T.number.length} trials` : `${shown.length} finished trials`;
      says.classList.remove("wrong");
      return true;
    } catch (error) {
      says.textContent = error.message; says.classList.add("wrong");
      return false;
    }
  }
  function narrow(name, low, high, text) {  // replaces the filter's conditions on one name
    const others = $("filter").value.split(/\s+and\s+/i).filter((part) => part.trim() && !new RegExp(`^\\s*${name.replace(/\./g, "\\.")}\\s*[<>=!]`).test(part));
    $("filter").value = [...others.map((part) => part.trim()), ...(text ?? [`${name} >= ${low}`, `${name} <= ${high}`])].join(" and ");
    refilter();
  }

  // Plots

  const SETTINGS = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  function axis(metric, log) {
    return { title: { text: words(metric.name) }, ticksuffix: metric.unit === "1" ? "" : metric.unit,
      type: log ? "log" : "linear", dtick: log ? "D2" : undefined, tickformat: metric.share ? ".0%" : "~s", gridcolor: colour("edge"),
      zeroline: false, linecolor: colour("edge"), automargin: true };
  }
  function layout(more) {
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 60, r: 16, t: 12, b: 50 },
      font: { family: "system-ui, sans-serif", color: colour("ink"), size: 13 }, hovermode: "closest", uirevision: "stay",
      legend: { orientation: "h", yanchor: "bottom", y: 1.01 }, hoverlabel: { bgcolor: colour("card"), bordercolor: colour("edge"), font: { color: colour("ink") } }, ...more };
  }
  const hover = (i) => [`trial ${T.number[i]}, ${STANDINGS[standing(i)][0]}`,
    ...metrics.slice(0, 6).map((m) => `${words(m.name)} ${withInterval(i, m.name)}`)].join("<br>");
  function bars(indices, name) {
    if (!(name in T.low)) return undefined;
    const v = (i) => value(i, name);
    return { type: "data", symmetric: false, thickness: 1.2, width: 3, array: indices.map((i) => (T.high[name][i] ?? v(i)) - v(i)),
      arrayminus: indices.map((i) => v(i) - (T.low[name][i] ?? v(i))) };
  }
  function trace(kind, indices, x, y) {
    const [name, tint, symbol, size] = STANDINGS[kind], line = kind === "front";
    const objectives = data.objectives.map((o) => o.metric);
    const connect = line && objectives.length === 2 && objectives.includes(x) && objectives.includes(y) && x !== y;
    const order = line ? [...indices].sort((a, b) => value(a, x) - value(b, x)) : indices;
    return { type: "scatter", mode: connect ? "lines+markers" : "markers", name: `${name} (${indices.length})`,
      // between two members nothing better than the worse of both is known to be reached, hence a staircase
      line: { shape: metricOf[x].maximize ? "vh" : "hv", width: 1.4, color: colour(tint) },
      x: order.map((i) => value(i, x)), y: order.map((i) => value(i, y)), customdata: order, hoverinfo: "text",
      hovertext: order.map(hover), error_x: line ? { ...bars(order, x), color: colour(tint) } : undefined, error_y: line ? { ...bars(order, y), color: colour(tint) } : undefined,
      marker: { color: colour(tint), symbol, size, opacity: kind === "dominated" ? 0.65 : 1, line: { width: kind === "front" ? 1 : 1.4, color: kind === "front" ? colour("card") : colour(tint) } } };
  }
  function coloured(indices, x, y, name) {
    const metric = metricOf[name], some = indices.filter((i) => value(i, name) !== null);
    const order = [...some].sort((a, b) => T.front[a] - T.front[b]);
    return { type: "scatter", mode: "markers", name: "trials", showlegend: false, x: order.map((i) => value(i, x)), y: order.map((i) => value(i, y)),
      customdata: order, hoverinfo: "text", hovertext: order.map(hover),
      marker: { color: order.map((i) => value(i, name)), colorscale: "Cividis", size: order.map((i) => T.front[i] ? 12 : 6),
        symbol: order.map((i) => T.front[i] ? "diamond" : "circle"), line: { width: order.map((i) => T.front[i] ? 1.5 : 0.7), color: order.map((i) => colour(T.front[i] ? "ink" : "dim")) },
        colorbar: { title: { text: words(name), side: "right" }, tickformat: metric.share ? ".0%" : "~s", thickness: 12, outlinewidth: 0 } } };
  }
  const short = (net) => net.name.replace("vovnet_v2_", "V2-").replace("vovnet", "V1-").replaceAll("_", "-");
  function grouped(nets, name, apart) {  // neighbours share one label
    const groups = [];
    for (const net of [...nets].sort((a, b) => a[name] - b[name])) {
      const last = groups.at(-1);
      if (last && apart(last[0][name], net[name])) last.push(net); else groups.push([net]);
    }
    return groups;
  }
  function references(x, y, points) {
    const says = [], shapes = [], annotations = [], traces = [];
    if (!data.published.length) says.push(`Published VoVNets do not fit images of ${data.summary.image_size} px.`);
    const nets = $("published").checked ? data.published : [];
    const cost = (name) => metricOf[name].counted;
    if (nets.length && cost(x) && cost(y)) {
      const labels = new Map(grouped(nets, x, (a, b) => b < 1.25 * a).map((group) => [group[0], group.map(short).join(", ")]));
      traces.push({ type: "scatter", mode: "markers+text", name: "published VoVNets", x: nets.map((n) => n[x]), y: nets.map((n) => n[y]),
        text: nets.map((n) => labels.get(n) ?? ""), textposition: "top left", textfont: { size: 10, color: colour("dim") }, hoverinfo: "text",
        hovertext: nets.map((n) => `${n.name}, counted, not trained here`), marker: { symbol: "diamond-open", size: 9, color: colour("known"), line: { width: 2 } } });
      says.push(`Published VoVNets are counted for this study's ${data.summary.image_size} px images and ${data.summary.classes} classes.`);
    } else if (nets.length && (cost(x) || cost(y))) {
      const name = cost(x) ? x : y, inside = points.map((i) => value(i, name));
      const top = Math.max(...inside) * 1.05, near = nets.filter((n) => n[name] <= top);
      for (const group of grouped(near, name, (a, b) => b - a < 0.035 * top)) {
        const net = group[0], at = $("log").checked ? Math.log10(net[name]) : net[name];
        for (const { [name]: here } of group) {
          shapes.push({ type: "line", [name === x ? "xref" : "yref"]: name === x ? "x" : "y", [name === x ? "yref" : "xref"]: "paper", layer: "below",
            ...(name === x ? { x0: here, x1: here, y0: 0, y1: 1 } : { y0: here, y1: here, x0: 0, x1: 1 }), line: { color: colour("known"), dash: "dot", width: 1 } });
        }
        annotations.push({ text: group.map(short).join(", "), showarrow: false, font: { size: 10, color: colour("known") },
          ...(name === x ? { x: at, yref: "paper", y: 1, textangle: -90, xanchor: "right", yanchor: "top" } : { y: at, xref: "paper", x: 1, xanchor: "right", yanchor: "bottom" }) });
      }
      const smallest = nets.reduce((a, b) => (a[name] < b[name] ? a : b));
      says.push(`Lines are published VoVNets at their counted ${words(name)}; they were not trained here and therefore have no other coordinate.`);
      if (!near.length) says.push(`None is in this view: the smallest, ${short(smallest)}, has ${quantity(smallest[name], metricOf[name])}.`);
    } else if (nets.length) {
      says.push("Published VoVNets were neither trained nor measured here: choose parameters, macs or memory access cost as an axis to see what they cost.");
    }
    return { says, shapes, annotations, traces };
  }
  const ofBaseline = (one, name) => interval(name, one.values[name], one.low[name], one.high[name]);
  const beating = (one) => one.beaten_by.map((number) => `trial ${number}`).join(", ") || "no member of the front";
  function baselinePoints(x, y) {
    const some = data.baselines.filter((one) => one.values[x] !== null && one.values[y] !== null);
    return { type: "scatter", mode: "markers+text", name: "baselines", x: some.map((one) => one.values[x]), y: some.map((one) => one.values[y]),
      text: some.map((one) => one.name), textposition: "top center", textfont: { size: 10, color: colour("known") }, hoverinfo: "text",
      hovertext: some.map((one) => [`${one.name}, beaten by ${beating(one)}`, ...metrics.slice(0, 6).map((m) => `${words(m.name)} ${ofBaseline(one, m.name)}`)].join("<br>")),
      marker: { symbol: "diamond", size: 10, color: colour("known") } };
  }
  function ring() {  // marks the selected point above the plot, so that five thousand points need not be drawn again
    const plot = $("scatter"), mark = $("ring"), i = chosen.index, { xaxis, yaxis } = plot._fullLayout ?? {};
    const [x, y] = ["x", "y"].map((id) => i === null ? null : value(i, $(id).value));
    mark.hidden = !xaxis || x === null || y === null || !shown.includes(i);
    if (mark.hidden) return;
    const [left, top] = [xaxis.d2p(x), yaxis.d2p(y)];
    mark.hidden = left < 0 || left > xaxis._length || top < 0 || top > yaxis._length;
    mark.style.transform = `translate(${xaxis._offset + left}px, ${yaxis._offset + top}px)`;
  }
  function drawScatter() {
    const x = $("x").value, y = $("y").value, tint = $("colour").value;
    const points = shown.filter((i) => value(i, x) !== null && value(i, y) !== null);
    const reference = references(x, y, points);
    const traces = tint ? [coloured(points, x, y, tint)]
      : ["dominated", "stopped", "failed", "beyond", "possible", "front"].map((kind) => [kind, points.filter((i) => standing(i) === kind)])
        .filter(([, some]) => some.length).map(([kind, some]) => trace(kind, some, x, y));
    traces.push(...reference.traces);
    if (data.baselines.length && $("baselines").checked) traces.push(baselinePoints(x, y));
    const log = $("log").checked;
    Plotly.react("scatter", traces, layout({ xaxis: axis(metricOf[x], log), yaxis: axis(metricOf[y], log), shapes: reference.shapes,
      annotations: reference.annotations, uirevision: `${x} ${y} ${log}` }), SETTINGS);
    const missing = shown.length - points.length;
    $("scatter-says").textContent = [missing ? `${missing} trials lack one of these two figures and are not drawn.` : "", ...reference.says].join(" ");
  }
  function drawHistory() {
    const H = data.history, clock = $("clock").value, known = H.hypervolume.some((v) => v !== null);
    const box = data.summary.reference_box, scaled = (v) => v === null ? null : v / (box ?? 1);
    fill("history-says", known ? `The volume between the front and the reference point, ${box ? "as a share of the reference box: that between the best possible figures and the references" : "in the units of the objectives"}; larger is better.`
      : "There is no hypervolume: it needs a reference or a limit for every objective in the study file.");
    $("history").hidden = !known;
    if (!known) return;
    const last = { after: T.number.length, device_s: data.summary.device_s, searched_s: data.summary.searched_s }[clock];
    const x = [...H[clock], last], y = [...H.hypervolume, H.hypervolume.at(-1)].map(scaled);
    Plotly.react("history", [{ type: "scatter", mode: "lines", line: { shape: "hv", color: colour("front"), width: 2.2 }, fill: "tozeroy", fillcolor: `${colour("front")}22`,
      x, y, hovertemplate: `%{y:${box ? ".3~%" : ".4g"}}<extra></extra>` }],
    layout({ showlegend: false, hovermode: "x", xaxis: { title: { text: $("clock").selectedOptions[0].text + (clock === "after" ? "" : " [s]") }, gridcolor: colour("edge"), zeroline: false, automargin: true },
      yaxis: { title: { text: box ? "share of the reference box" : "hypervolume" }, tickformat: box ? "~%" : "~g", exponentformat: "power", gridcolor: colour("edge"), zeroline: false, rangemode: "tozero", automargin: true }, uirevision: clock }), SETTINGS);
  }

  // Parallel coordinates on a canvas: five thousand lines take milliseconds without a graphics card

  const CIVIDIS = [[0, 34, 78], [50, 64, 107], [86, 92, 108], [117, 118, 118], [150, 143, 118], [185, 170, 108], [221, 199, 87], [254, 232, 56]];
  function cividis(share) {
    const at = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1), low = Math.floor(at), rest = at - low;
    const [a, b] = [CIVIDIS[low], CIVIDIS[Math.min(low + 1, CIVIDIS.length - 1)]];
    return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * rest)).join(",")})`;
  }
  function axes() {
    const own = data.choices.filter((c) => c.values.length > 1).map((c) => ({ name: c.name, choice: choiceOf[c.name],
      at: (i) => c.values.length === 1 ? 0.5 : T.params[i][choiceOf[c.name].place] / (c.values.length - 1) }));
    const found = data.objectives.map(({ metric }) => {
      const known = T.values[metric].filter((v) => v !== null), low = Math.min(...known), high = Math.max(...known);
      return { name: metric, metric: metricOf[metric], low, high, at: (i) => value(i, metric) === null ? null : high === low ? 0.5 : (value(i, metric) - low) / (high - low) };
    });
    return [...own, ...found.filter((one) => Number.isFinite(one.low))];
  }
  let parallel = null;
  function drawParallel() {
    const canvas = $("parallel"), all = axes(), scale = devicePixelRatio || 1, width = canvas.clientWidth, height = 360;
    canvas.width = width * scale; canvas.height = height * scale; canvas.style.height = `${height}px`;
    const draw = canvas.getContext("2d"), top = 74, bottom = height - 24, left = 34, right = width - 60;
    draw.scale(scale, scale);
    const across = (k) => all.length === 1 ? left : left + (right - left) * k / (all.length - 1), down = (share) => bottom - (bottom - top) * share;
    parallel = { all, across, top, bottom };
    const tint = metricOf[$("parallel-colour").value], known = shown.map((i) => value(i, tint.name)).filter((v) => v !== null);
    const low = Math.min(...known), high = Math.max(...known);
    const jitter = (i, k) => ((Math.imul(i + 1, 2654435761) ^ Math.imul(k + 7, 40503)) >>> 16) % 100 / 100 - 0.5;
    const line = (i) => {
      draw.beginPath();
      let pen = false;
      all.forEach((one, k) => {
        const share = one.at(i);
        if (share === null) { pen = false; return; }
        const y = down(share) + (one.choice ? jitter(i, k) * 8 : 0);
        if (pen) draw.lineTo(across(k), y); else draw.moveTo(across(k), y);
        pen = true;
      });
      draw.stroke();
    };
    const rest = shown.filter((i) => !T.front[i] && value(i, tint.name) !== null), best = shown.filter((i) => T.front[i] && value(i, tint.name) !== null);
    draw.globalAlpha = Math.max(Math.min(60 / Math.max(rest.length, 1), 0.5), 0.06); draw.lineWidth = 1;
    const dark = document.documentElement.dataset.theme === "dark";  // each end of the scale is invisible on one of the two backgrounds
    const shade = (i) => cividis((dark ? 0.25 : 0) + 0.75 * (high === low ? 0.5 : (value(i, tint.name) - low) / (high - low)));
    rest.forEach((i) => { draw.strokeStyle = shade(i); line(i); });
    draw.globalAlpha = 0.95; draw.lineWidth = 1.8;
    best.forEach((i) => { draw.strokeStyle = colour("front"); line(i); });
    if (chosen.index !== null) { draw.strokeStyle = colour("ring"); draw.lineWidth = 3; line(chosen.index); }
    draw.globalAlpha = 1; draw.font = "12px system-ui, sans-serif"; draw.lineWidth = 1;
    all.forEach((one, k) => {
      const x = across(k);
      draw.strokeStyle = colour("dim"); draw.beginPath(); draw.moveTo(x, top); draw.lineTo(x, bottom); draw.stroke();
      draw.fillStyle = colour("ink"); draw.save(); draw.translate(x - 4, top - 10); draw.rotate(-0.5); draw.fillText(one.name, 0, 0); draw.restore();
      const marks = one.choice ? one.choice.values.map((v, j) => [String(v), one.choice.values.length === 1 ? 0.5 : j / (one.choice.values.length - 1)])
        : [[quantity(one.low, one.metric), 0], [quantity(one.high, one.metric), 1]];
      for (const [text, share] of marks) {
        const wide = draw.measureText(text).width;
        draw.globalAlpha = 0.75; draw.fillStyle = colour("card"); draw.fillRect(x + 3, down(share) - 8, wide + 4, 15);
        draw.globalAlpha = 1; draw.fillStyle = colour("dim"); draw.fillText(text, x + 5, down(share) + 4);
      }
    });
  }
  function brush() {
    let from = null;
    const canvas = $("parallel"), place = (event) => [event.clientX - canvas.getBoundingClientRect().left, event.clientY - canvas.getBoundingClientRect().top];
    canvas.addEventListener("pointerdown", (event) => { from = place(event); canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointerup", (event) => {
      if (!from || !parallel) return;
      const to = place(event), { all, across, top, bottom } = parallel;
      const [a, b] = [from[1], to[1]].map((y) => Math.min(Math.max((bottom - y) / (bottom - top), 0), 1)).sort((p, q) => p - q);
      const k = all.reduce((best, _, j) => Math.abs(across(j) - from[0]) < Math.abs(across(best) - from[0]) ? j : best, 0), one = all[k];
      from = null;
      if (b - a < 0.02) return;
      if (one.metric) { narrow(one.name, Number((one.low + a * (one.high - one.low)).toPrecision(4)), Number((one.low + b * (one.high - one.low)).toPrecision(4))); return; }
      const inside = one.choice.values.filter((_, j) => { const s = one.choice.values.length === 1 ? 0.5 : j / (one.choice.values.length - 1); return s >= a - 0.04 && s <= b + 0.04; });
      if (!inside.length) return;
      if (one.choice.ordered) narrow(one.name, inside[0], inside.at(-1));
      else narrow(one.name, null, null, one.choice.values.filter((v) => !inside.includes(v)).map((v) => `${one.name} != ${v}`));
    });
  }

  // Tables

  const trialLink = (index) => make("button", { type: "button", className: "link", onclick: () => choose(index, true) }, String(T.number[index]));
  function drawBaselines() {
    const names = metrics.map((m) => m.name);
    $("baselines-section").hidden = !data.baselines.length;
    fill("baselines-body", headings("baseline", ...names.map(words), "beaten by"),
      make("tbody", {}, ...data.baselines.map((one) => tr(td(one.name), ...names.map((n) => figure(ofBaseline(one, n))), td(beating(one))))));
  }
  function drawMembers() {
    const names = metrics.map((m) => m.name), only = $("rows").value === "front";
    const by = chosen.sort ?? data.objectives[0].metric, key = (i) => by === "trial" ? T.number[i] : value(i, by) ?? Infinity;
    const rows = shown.filter((i) => !only || T.front[i]).sort((a, b) => (key(a) - key(b)) * (chosen.falling ? -1 : 1));
    const head = (name, text) => make("th", { className: "number", scope: "col", "aria-sort": by === name ? (chosen.falling ? "descending" : "ascending") : "none" },
      make("button", { type: "button", onclick: () => { chosen.falling = by === name && !chosen.falling; chosen.sort = name; drawMembers(); } }, text + (by === name ? (chosen.falling ? " ▼" : " ▲") : "")));
    fill("members", make("thead", {}, tr(head("trial", "trial"), make("th", { scope: "col" }, "standing"), ...names.map((n) => head(n, words(n))))),
      make("tbody", {}, ...rows.slice(0, 500).map((i) =>
        make("tr", { className: i === chosen.index ? "chosen" : "", "data-trial": T.number[i], onclick: () => choose(i) },
          figure(trialLink(i)), td(STANDINGS[standing(i)][0] + (T.front[i] && T.certainty[i] === "certain" && "latency" in T.low ? ", certain" : "")),
          ...names.map((n) => figure(withInterval(i, n)))))));
    if (rows.length > 500) $("members").append(make("caption", {}, `The first 500 of ${rows.length}; filter for fewer.`));
    if (!rows.length) $("members").append(make("caption", {}, "No trial passes the filter."));
  }
  function drawTiles() {
    const s = data.summary, states = Object.entries(s.states).filter(([, n]) => n).map(([state, n]) => `${n} ${state}`).join(", ");
    const tile = (big, small) => make("div", { className: "tile" }, make("b", {}, big), make("span", {}, small));
    const tried = Object.values(s.states).reduce((a, b) => a + b, 0) - s.skipped;
    const volume = (v) => v === null ? "–" : s.reference_box ? `${(100 * v / s.reference_box).toPrecision(3)} %` : v.toPrecision(4);
    const ofBox = s.reference_box ? " of the reference box" : "";
    const skipped = s.skipped ? `; ${s.skipped} of them skipped before training and not counted` : "";
    const copied = s.copied ? `; ${s.copied} more came by copy or import and count in no budget` : "";
    fill("tiles", tile(`${tried} of ${s.budget}`, `${s.copied ? "new networks" : "architectures"}: ${states || "none yet"}${skipped}${copied}`), tile(String(s.front), s.feasible ? "on the front" : "closest to the limits; nothing is feasible yet"),
      tile(volume(s.hypervolume), `hypervolume${ofBox}${s.unbiased ? ", as searched" : ""}`),
      ...(s.unbiased?.fresh ? [tile(volume(s.unbiased.fresh), `by new seeds, for ${s.unbiased.replicated} of ${s.unbiased.members} members (${volume(s.unbiased.searched)} as searched)`)] : []),
      ...data.objectives.map(({ metric, direction }) => {
        const of = T.number.map((_, i) => i).filter((i) => T.front[i] && value(i, metric) !== null), sign = direction === "maximize" ? -1 : 1;
        const best = of.length ? of.reduce((a, b) => sign * value(a, metric) <= sign * value(b, metric) ? a : b) : null;
        return tile(best === null ? "–" : quantity(value(best, metric), metricOf[metric]), `best ${words(metric)} on the front`);
      }), tile(duration(s.searched_s), `searched, ${s.repeated} repeated proposals cost nothing`));
  }
  function drawAtWork() {
    const now = data.at_work;
    $("at-work").hidden = !now || !(now.busy || source.dataset.live);
    if (!now) return;
    fill("at-work-body", make("p", {}, now.heading),
      now.works.length ? make("table", {}, headings("worker", "trial", "step", "for"),
        make("tbody", {}, ...now.works.map((one) => tr(...[one.worker, String(one.trial), one.doing, one.lasted].map((text) => td(text)))))) : null,
      ...now.device.map(note));
  }
  function drawImportance() {
    const able = data.importance.filter((one) => Object.keys(one.shares).length);
    if (!able.length) { fill("importance-body", note(`This needs at least ${data.importance_needs} trials with different values.`)); return; }
    const total = (name) => able.reduce((sum, one) => sum + (one.shares[name] ?? 0), 0);
    const names = data.choices.map((c) => c.name).filter((n) => total(n) > 0).sort((a, b) => total(b) - total(a));
    fill("importance-body", note("PED-ANOVA: how much the best tenth of the trials differ from all trials in one choice, as shares of 1 for each objective. It shows what the best networks have in common, not how much a choice changes an average network."),
      make("table", {}, headings("choice", ...able.map((one) => `${words(one.metric)} (${one.trials} trials)`)),
        make("tbody", {}, ...names.map((name) => tr(td(name), ...able.map((one) => {
          const share = one.shares[name] ?? 0, bar = make("span", { className: "bar" });
          bar.style.width = `${Math.max(share * 70, 0.3)}%`;
          return td(bar, ` ${(100 * share).toFixed(0)} %`);
        }))))));
  }
  function drawRungs() {
    if (!data.agreement.length) { fill("rungs-body", note("This needs several rungs, and at least three trials that reached two of them.")); return; }
    fill("rungs-body", note("Kendall's tau between a trained metric at two rungs: 1 is the same order, 0 no relation. If trials are stopped, only the survivors and the one trial in ten that is exempt are compared, which lowers tau."),
      make("table", {}, headings("metric", "epochs", "and", "tau", "trials", "tau of the best quarter", "trials"),
        make("tbody", {}, ...data.agreement.map((a) => {
          const bar = make("span", { className: "bar" });
          bar.style.width = `${Math.max(a.tau, 0) * 120}px`;
          return tr(td(words(a.metric)), td(String(a.first)), td(String(a.second)), td(`${a.tau.toFixed(2)} `, bar), td(String(a.trials)), td(a.top_tau === null ? "-" : a.top_tau.toFixed(2)), td(String(a.top)));
        }))));
  }
  function drawCost() {
    const kinds = [["measuring", "a"], ["training", "b"], ["validation", "c"], ["waiting", "dim"], ["other", "d"]];
    const sum = (row) => kinds.reduce((total, [kind]) => total + row[kind], 0), most = Math.max(...data.ledger.map(sum), 1e-9);
    const key = make("p", { className: "note key" }, "Seconds of all workers together:");
    for (const [kind, tint] of kinds) { const mark = make("i"); mark.style.background = `var(--${tint})`; key.append(mark, kind); }
    const rows = data.ledger.filter((row) => row.trials).map((row) => {
      const stack = make("div", { className: "stack", title: kinds.map(([kind]) => `${kind} ${duration(row[kind])}`).join(", ") });
      for (const [kind, tint] of kinds) { const part = make("i"); part.style.width = `${100 * row[kind] / most}%`; part.style.background = `var(--${tint})`; stack.append(part); }
      return tr(td(`${row.trials} ${row.state}`), ...kinds.map(([kind]) => figure(duration(row[kind]))), make("td", { style: "width:40%" }, stack));
    });
    fill("cost-body", key, make("table", {}, make("thead", {}, tr(make("th", { scope: "col" }, "trials"), ...kinds.map(([kind]) => make("th", { className: "number", scope: "col" }, kind)), make("th", {}, ""))), make("tbody", {}, ...rows)),
      note("Waiting is for the device. Other is the rest of the time from a trial's start to its end: building and saving networks, and the search itself."));
  }
  function drawQuality() {
    const percent = (share) => share === null ? "–" : `${(100 * share).toFixed(2)} %`;
    if (!data.quality.length) { fill("quality-body", note("Nothing was measured: all figures are counted.")); return; }
    fill("quality-body", make("table", {}, headings("metric", "figures by status", "median half width", "largest", "readings", "method", "device class", "plan"), make("tbody", {}, ...data.quality.map((q) => tr(
      td(`${words(q.metric)} (${q.kinds})`), td(Object.entries(q.statuses).filter(([, n]) => n).map(([s, n]) => `${n} ${s}`).join(", "),
        q.rejected ? make("div", { className: "dim" }, `${q.rejected} cycles were rejected and measured again`) : "", ...Object.entries(q.reasons).map(([reason, n]) => make("div", { className: "dim" }, `${n} × ${reason}`))),
      figure(percent(q.median_half_width)), figure(percent(q.largest_half_width)), figure(String(q.samples)),
      td(q.methods.slice(0, 3).join("; ") + (q.methods.length > 3 ? `; and ${q.methods.length - 3} more` : "")), td(q.devices.join("; ") || "–"),
      td(q.plan ? `batch ${q.plan.batch_size} at ${q.plan.image_size} px, ${q.plan.precision}, ${q.plan.threads} thread(s), ${q.plan.runtime}` : "–"))))));
  }
  const drawProvenance = () => fill("provenance-body", make("tbody", {}, ...data.provenance.map(([name, text]) => tr(make("th", { scope: "row" }, name), td(text)))));

  // The selected trial

  const unpacked = new Map();
  async function drawing(index) {
    if (source.dataset.live) {
      const answer = await fetch(`/api/drawing?study=${encodeURIComponent(data.study)}&trial=${T.number[index]}`);
      return answer.ok ? answer.text() : "";
    }
    const { size, chunks } = JSON.parse($("drawings").textContent), chunk = Math.floor(index / size);
    if (!unpacked.has(chunk)) {
      const bytes = Uint8Array.from(atob(chunks[chunk]), (c) => c.charCodeAt(0));
      unpacked.set(chunk, new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json());
    }
    return (await unpacked.get(chunk))[index % size];
  }
  function differences(a, b) {
    return data.choices.filter((c) => T.params[a][choiceOf[c.name].place] !== T.params[b][choiceOf[c.name].place])
      .map((c) => `${c.name} ${valueOfChoice(b, choiceOf[c.name])}`).join(", ");
  }
  async function drawDetails() {
    const i = chosen.index;
    if (i === null) { fill("details", make("h2", {}, "The selected trial"), note("Select a point or a row to see its network, figures and export command.")); return; }
    const command = T.export[i], kind = standing(i);
    const copy = make("button", { type: "button", onclick: async () => {
      try { await navigator.clipboard.writeText(command); copy.textContent = "copied"; } catch { getSelection().selectAllChildren(copy.previousSibling); copy.textContent = "selected"; }
    } }, "copy");
    const picture = make("div", { id: "drawing", "data-trial": T.number[i] });
    const facts = [[`${STANDINGS[kind][0]}${T.certainty[i] === "certain" ? ", for any true values within the measured intervals (which do not include the spread of trainings)" : T.certainty[i] === "probable" ? ", but others may be better within the measured intervals" : ""}`],
      T.rank[i] === null ? [] : [`rank ${T.rank[i]}, dominated by ${T.dominated_by[i]}, dominates ${T.dominates[i]}`], T.reason[T.number[i]] ? [T.reason[T.number[i]]] : []].flat();
    fill("details", make("div", { className: "heading" }, make("h2", {}, `Trial ${T.number[i]} `, make("span", { className: `badge ${kind}` }, T.state[i])),
      make("button", { type: "button", onclick: () => walk(-1), "aria-label": "Previous on the front" }, "←"), make("button", { type: "button", onclick: () => walk(1), "aria-label": "Next on the front" }, "→")),
    note(facts.join("; ") + "."), picture,
    make("table", { id: "figures" }, make("tbody", {}, ...metrics.map((m) => tr(make("th", { scope: "row" }, words(m.name)), figure(withInterval(i, m.name)),
      make("td", { className: "dim" }, [m.kind === "trained" && T.seeds[i] > 1 ? `mean of ${T.seeds[i]} seeds` : m.kind, T.status[m.name]?.[i]].filter((s) => s && s !== "ok").join(", ")))),
    ...T.rungs[i].flatMap(([epochs, figures, seconds]) => metrics.filter((m) => m.name in figures).map((m) => tr(make("th", { scope: "row" }, `${words(m.name)} after ${Number(epochs.toPrecision(3))} epochs`), figure(quantity(figures[m.name], m)), make("td", { className: "dim" }, `${seconds === null ? "unknown time" : duration(seconds)} of training`)))))),
    make("h3", {}, "Export"), command ? make("div", { className: "command" }, make("code", { id: "command" }, command), copy)
      : note("Its weights are not stored: only a network that is on the front when its training ends keeps them. Train it again with nas train."),
    make("h3", {}, "Most similar trials"), make("table", {}, make("tbody", {}, ...T.nearest[i].map((n) => tr(td(trialLink(n)),
      td(data.objectives.map(({ metric }) => quantity(value(n, metric), metricOf[metric])).join(", ")), make("td", { className: "dim" }, differences(i, n)))))),
    make("h3", {}, "Choices"), note(data.choices.map((c) => `${c.name} ${valueOfChoice(i, choiceOf[c.name])}`).join(", ")),
    make("p", { className: "dim" }, `digest ${T.digest[i]}`));
    const text = await drawing(i);
    if (chosen.index === i) picture.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes);
  }
  function choose(index, focus = false) {
    chosen.index = index;
    drawDetails(); ring(); drawMembers(); drawParallel();
    if (focus) $("scatter").focus({ preventScroll: true });
  }
  function along() {  // the front from left to right
    const x = $("x").value;
    return T.number.map((_, i) => i).filter((i) => T.front[i] && value(i, x) !== null).sort((a, b) => value(a, x) - value(b, x));
  }
  function walk(step) {
    const front = along(), at = front.indexOf(chosen.index);
    if (front.length) choose(front[at < 0 ? 0 : (at + step + front.length) % front.length]);
  }

  // Everything together

  function options(id, entries, selected) {
    const before = $(id).value;
    fill(id, ...entries.map(([key, text]) => make("option", { value: key }, text)));
    $(id).value = entries.some(([key]) => key === before) && before ? before : selected;
  }
  function refilter() { if (readFilter()) { drawScatter(); drawMembers(); drawParallel(); } }
  function drawAll() {
    const entries = metrics.map((m) => [m.name, words(m.name)]), objectives = data.objectives.map((o) => o.metric);
    const second = objectives[1] ?? metrics.find((m) => m.name !== objectives[0])?.name ?? objectives[0];
    options("x", entries, second); options("y", entries, objectives[0]);
    options("colour", [["", "by standing"], ...entries], ""); options("parallel-colour", entries, objectives[0]);
    $("published").closest("label").hidden = !data.published.length;
    $("baselines").closest("label").hidden = !data.baselines.length;
    if (chosen.index === null) chosen.index = along()[Math.floor(along().length / 2)] ?? null;
    readFilter(); drawTiles(); drawAtWork(); drawDetails(); drawScatter(); ring(); drawMembers(); drawBaselines();
    setTimeout(() => { drawHistory(); drawImportance(); drawRungs(); drawCost(); drawQuality(); drawProvenance(); drawParallel(); });
  }
  function listen() {
    for (const id of ["x", "y"]) $(id).addEventListener("change", () => { $("log").checked = metricOf[$("x").value].counted && metricOf[$("y").value].counted; drawScatter(); });
    for (const id of ["colour", "log", "published", "baselines"]) $(id).addEventListener("change", drawScatter);
    $("filter").addEventListener("input", refilter);
    $("clear").addEventListener("click", () => { $("filter").value = ""; refilter(); });
    $("rows").addEventListener("change", drawMembers); $("clock").addEventListener("change", drawHistory); $("parallel-colour").addEventListener("change", drawParallel);
    $("scatter").addEventListener("keydown", (event) => { const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]; if (step) { event.preventDefault(); walk(step); } });
    $("scatter").on("plotly_afterplot", ring);
    $("scatter").on("plotly_click", (event) => { const index = event.points.find((p) => typeof p.customdata === "number")?.customdata; if (index !== undefined) choose(index); });
    document.addEventListener("theme", () => { drawScatter(); drawHistory(); drawParallel(); });
    addEventListener("resize", drawParallel);
    brush();
  }
  const recorded = (contents) => JSON.stringify({ ...contents, at_work: null });
  async function watch() {
    const answer = await fetch(source.dataset.live).catch(() => null);
    if (answer?.ok) {
      const next = await answer.json(), number = T.number[chosen.index];
      if (recorded(next) !== recorded(data)) {
        take(next);
        const index = T.number.indexOf(number);  // of a trial that is tried again there is none
        chosen.index = index < 0 ? null : index; drawAll();
      } else { data.at_work = next.at_work; drawAtWork(); }
    }
    setTimeout(watch, 5000);
  }
  take(data); drawAll(); listen();
  if (source.dataset.live) setTimeout(watch, 5000);
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();

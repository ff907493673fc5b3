"use strict";
// Images stand in the order of the sheets: cluster after cluster, most typical first. Everything is made when it is seen.
const read = id => JSON.parse(document.getElementById(id).textContent);
const data = read("data"), names = new Map(Object.entries(read("names")).map(([cluster, name]) => [Number(cluster), name]));
const PAGE = 96, SPRITE = data.columns * data.columns;
const firsts = [], thumbFirsts = [];
data.sizes.reduce((first, size, place) => (firsts[place] = first, first + size), 0);
data.counts.reduce((first, count, place) => (thumbFirsts[place] = first, first + count), 0);

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && typeof value !== "string") made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
const number = value => value.toLocaleString("en-US");
const percent = value => (value / 100).toFixed(value > 9990 || value < 10 ? 2 : 1) + " %";
const nameOf = cluster => names.get(cluster) || "Cluster " + cluster;

// The place among the clusters of the image at a place of the order.
const clusterAt = index => {
  let low = 0, high = firsts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (firsts[middle] <= index) low = middle; else high = middle - 1;
  }
  return low;
};
const fileOf = index => data.files[index];
const hrefOf = index => {
  if (!data.root) return null;
  const special = data.links[index];
  return data.root + (special === undefined ? fileOf(index).split("/").map(encodeURIComponent).join("/") : special);
};

// A sprite becomes an address of its own when a tile first needs it; the oldest are given back.
const MOST_SPRITES = 160, sprites = new Map();
const spriteAddress = id => {
  let known = sprites.get(id);
  if (known === undefined) {
    const text = atob(document.getElementById(id).textContent), bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
    known = URL.createObjectURL(new Blob([bytes], {type: "image/webp"}));
  } else sprites.delete(id);
  sprites.set(id, known);
  return known;
};
const giveBackSprites = () => {
  if (sprites.size <= MOST_SPRITES) return;
  const used = new Set([...document.querySelectorAll(".thumb[data-sprite]")].map(each => each.dataset.sprite));
  for (const [id, address] of [...sprites]) {
    if (sprites.size <= MOST_SPRITES) return;
    if (!used.has(id)) { URL.revokeObjectURL(address); sprites.delete(id); }
  }
};
const thumb = (index, uncertainPlace) => {
  const made = element("span", {class: "thumb" + (data.tile < 48 ? " sharp" : "")});
  let kind = "c", place = -1;
  if (uncertainPlace !== undefined && data.uncertainSprites) { kind = "u"; place = uncertainPlace; } else {
    const cluster = clusterAt(index), within = index - firsts[cluster];
    if (within < data.counts[cluster]) place = thumbFirsts[cluster] + within;
  }
  if (place < 0) return made;
  const id = kind + Math.floor(place / SPRITE), tile = place % SPRITE, sprite = document.getElementById(id);
  const rows = Number(sprite.dataset.rows), column = tile % data.columns, row = Math.floor(tile / data.columns);
  made.dataset.sprite = id;
  made.style.backgroundImage = `url("${spriteAddress(id)}")`;
  made.style.backgroundSize = `${data.columns * 100}% ${rows * 100}%`;
  made.style.backgroundPosition = `${column * 100 / (data.columns - 1)}% ${rows > 1 ? row * 100 / (rows - 1) : 0}%`;
  return made;
};
const tile = (index, showCluster, uncertainPlace) => {
  const cluster = data.clusters[clusterAt(index)], second = data.seconds[index];
  const next = second < 0 ? "" : `, then ${nameOf(second)} ${percent(data.secondProbabilities[index])}`;
  const label = data.labels[data.labelOf[index]], file = fileOf(index);
  const sure = `${showCluster ? nameOf(cluster) + " " : ""}${percent(data.probabilities[index])}`;
  const title = `${file}\n${nameOf(cluster)} ${percent(data.probabilities[index])}${next}${label ? "\nlabel: " + label : ""}`;
  const href = hrefOf(index);
  const children = [
    ...(data.hasThumbnails ? [thumb(index, uncertainPlace)] : []),
    element("span", {class: "file"}, file.slice(file.lastIndexOf("/") + 1) || file),
    element("span", {class: "sure"}, sure + (label ? " · " + label : "")),
  ];
  const made = href ? element("a", {class: "tile", href, title, target: "_blank", rel: "noopener"}, ...children)
                    : element("span", {class: "tile", title, tabIndex: 0}, ...children);
  return element("li", {}, made);
};

// A grid of tiles with pages. indexAt: place on the sheet -> place of the order.
const sheet = (body, pages, count, indexAt, showCluster, isUncertain) => {
  let page = 0;
  const last = Math.max(0, Math.ceil(count / PAGE) - 1);
  const back = element("button", {type: "button"}, "‹ Previous"), on = element("button", {type: "button"}, "Next ›");
  const where = element("span", {"aria-live": "polite"});
  const show = () => {
    const shown = [];
    for (let place = page * PAGE; place < Math.min(count, (page + 1) * PAGE); place++) {
      shown.push(tile(indexAt(place), showCluster, isUncertain ? place : undefined));
    }
    body.replaceChildren(...shown);
    where.textContent = `page ${number(page + 1)} of ${number(last + 1)}`;
    back.disabled = page === 0;
    on.disabled = page === last;
    giveBackSprites();
  };
  back.addEventListener("click", () => { page = Math.max(0, page - 1); show(); });
  on.addEventListener("click", () => { page = Math.min(last, page + 1); show(); });
  pages.replaceChildren(...(last ? [back, where, on] : []));
  show();
};

const rowsOfTiles = count => {
  const width = document.getElementById("sheets").clientWidth || 360, across = Math.max(1, Math.floor(width / 82));
  return Math.ceil(Math.min(count, PAGE) / across);
};
const waiting = new Map();
const observer = new IntersectionObserver(entries => {
  for (const entry of entries) {
    const make = waiting.get(entry.target);
    if (entry.isIntersecting && make) {
      waiting.delete(entry.target);
      observer.unobserve(entry.target);
      entry.target.style.minHeight = "";
      make();
    }
  }
}, {rootMargin: "400px"});
const section = (id, heading, extra, count, indexAt, showCluster = false, isUncertain = false) => {
  const body = element("ul", {class: "tiles"}), pages = element("div", {class: "pages"});
  const made = element("section", {id}, element("div", {class: "head"}, heading, ...extra, pages), body);
  made.style.minHeight = `${60 + rowsOfTiles(count) * (data.hasThumbnails ? 118 : 40)}px`;
  waiting.set(made, () => sheet(body, pages, count, indexAt, showCluster, isUncertain));
  return made;
};

const sheets = document.getElementById("sheets"), sizes = document.getElementById("sizes"), shownNames = new Map();
const total = data.files.length;
data.clusters.forEach((cluster, place) => {
  const count = data.sizes[place], heading = element("h2", {}, nameOf(cluster)), name = element("span", {class: "name"}, nameOf(cluster));
  const input = element("input", {type: "text", maxlength: "200", autocomplete: "off", value: names.get(cluster) || ""});
  input.addEventListener("input", () => {
    const typed = input.value.trim();
    if (typed) names.set(cluster, typed); else names.delete(cluster);
    heading.textContent = name.textContent = nameOf(cluster);
    document.getElementById("saved").textContent = "The names are changed and not saved yet.";
  });
  const without = data.counts.length && data.counts[place] < count ? `, ${number(data.counts[place])} with a thumbnail` : "";
  const label = element("label", {}, "name", input);
  input.setAttribute("aria-label", `name of cluster ${cluster}`);
  const extra = [element("span", {class: "soft"}, `cluster ${cluster} · ${number(count)} images, ${(100 * count / total).toFixed(1)} %${without}`), label];
  sheets.append(section(`cluster-${cluster}`, heading, extra, count, at => firsts[place] + at));
  const length = element("span", {class: "length"});
  length.style.width = `${100 * count / data.sizes[0]}%`;
  sizes.append(element("li", {}, element("a", {href: `#cluster-${cluster}`}, name, element("span", {class: "count"}, number(count)), length)));
});
if (data.uncertain.length) {
  const heading = element("h2", {}, "Least certain"), extra = [element("span", {class: "soft"},
    `the ${number(data.uncertain.length)} images whose first two clusters are closest to each other`)];
  sheets.append(section("uncertain", heading, extra, data.uncertain.length, at => data.uncertain[at], true, true));
}
for (const made of waiting.keys()) observer.observe(made);

// Search: in file names, labels and names of clusters.
const query = document.getElementById("query"), results = document.getElementById("results");
const found = wanted => {
  const hits = [], labels = data.labels.map(label => label.toLowerCase().includes(wanted));
  const clusters = data.clusters.map(cluster => nameOf(cluster).toLowerCase() === wanted || (names.get(cluster) || "").toLowerCase().includes(wanted));
  for (let index = 0, place = 0; index < total; index++) {
    while (place + 1 < firsts.length && firsts[place + 1] <= index) place++;
    if (clusters[place] || labels[data.labelOf[index]] || fileOf(index).toLowerCase().includes(wanted)) hits.push(index);
  }
  return hits;
};
const search = () => {
  const wanted = query.value.trim().toLowerCase();
  results.hidden = !wanted;
  sheets.hidden = document.getElementById("overview").hidden = Boolean(wanted);
  if (!wanted) { results.replaceChildren(); return; }
  const hits = found(wanted), body = element("ul", {class: "tiles"}), pages = element("div", {class: "pages"});
  const heading = element("h2", {role: "status"}, `${number(hits.length)} ${hits.length === 1 ? "image" : "images"} found`);
  results.replaceChildren(element("div", {class: "head"}, heading, pages), body);
  sheet(body, pages, hits.length, at => hits[at], true, false);
};
let timer = 0;
query.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 120); });
query.addEventListener("keydown", event => { if (event.key === "Escape") { query.value = ""; search(); } });
document.addEventListener("keydown", event => {
  if (event.key === "/" && !(event.target instanceof HTMLInputElement)) { event.preventDefault(); query.focus(); }
});

// Names: a small JSON file that the next report reads.
const saved = document.getElementById("saved");
const namesText = () => JSON.stringify({result: data.result, names: Object.fromEntries([...names].sort((a, b) => a[0] - b[0]))}, null, 1) + "\n";
document.getElementById("download").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([namesText()], {type: "application/json"}));
  element("a", {href: address, download: "cluster_names.json"}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  saved.textContent = "Downloaded; put cluster_names.json beside this page.";
});
document.getElementById("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(namesText());
    saved.textContent = "Copied; paste it into cluster_names.json beside this page.";
  } catch (refused) {
    saved.textContent = "The browser does not let this page copy; download the file.";
  }
});
document.documentElement.dataset.ready = "true";

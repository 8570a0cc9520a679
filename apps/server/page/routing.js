// What only a mixture has: which experts each token went to.

const kMostTokens = 4096;  // Kept for looking at; counts go on.

function color(expert, experts) {
  return `hsl(${Math.round((360 * expert) / Math.max(1, experts))} 70% 55%)`;
}

/// Entropy of a distribution as a share of the most it can be: 1 is perfectly even.
function evenness(counts) {
  const sum = counts.reduce((a, b) => a + b, 0);
  if (sum === 0 || counts.length < 2) return 1;
  const entropy = counts.reduce((h, c) => (c > 0 ? h - (c / sum) * Math.log(c / sum) : h), 0);
  return entropy / Math.log(counts.length);
}

export class RoutingPanel {
  constructor(elements) {
    this.elements = elements;
    this.experts = 0;  // Of a layer, where known; else as many as were seen.
    this.clear();
    elements.tokens.addEventListener("click", (event) => this.select(this.indexOf(event.target)));
    elements.tokens.addEventListener("mouseover", (event) => this.select(this.indexOf(event.target)));
    elements.tokens.addEventListener("keydown", (event) => this.onKey(event));
    for (const kind of ["mousemove", "click"])
      elements.heat.addEventListener(kind, (event) => this.showCell(event.offsetX, event.offsetY));
    elements.heat.addEventListener("mouseleave", () => (elements.cell.textContent = ""));
  }

  /// Forgets everything: another answer begins.
  clear() {
    this.layers = [];
    this.counts = [];  // [layer][expert]
    this.tokens = [];  // {text, experts, weights}
    this.seen = 0;
    this.selected = -1;
    this.elements.tokens.replaceChildren();
    this.elements.tokens.removeAttribute("aria-activedescendant");
    this.elements.token.replaceChildren();
    this.elements.heat.hidden = true;
    this.elements.note.textContent = "";
    this.elements.cell.textContent = "";
    this.elements.none.hidden = false;
  }

  /// One generated token and its routing, `{experts: [[id]], weights: [[w]]}` by mixture layer.
  add(text, routing) {
    if (routing?.layers) this.layers = routing.layers;
    const layers = routing?.experts ?? [];
    this.seen += layers.length > 0 ? 1 : 0;
    layers.forEach((chosen, layer) => {
      const counts = (this.counts[layer] ??= []);
      for (const expert of chosen) {
        this.experts = Math.max(this.experts, expert + 1);
        counts[expert] = (counts[expert] ?? 0) + 1;
      }
    });
    if (this.tokens.length >= kMostTokens) return;
    this.tokens.push({text, experts: layers, weights: routing?.weights ?? []});
    const span = document.createElement("span");
    span.textContent = text;
    span.setAttribute("role", "option");
    span.dataset.index = this.tokens.length - 1;
    span.id = `token-${span.dataset.index}`;
    if (layers.length > 0) {
      const middle = layers[layers.length >> 1];
      span.style.borderBottomColor = color(middle[0], this.experts);
    }
    this.elements.tokens.append(span);
  }

  /// Draws the heat map: layers downwards, experts across, dark to bright by share of tokens.
  draw() {
    const {heat, note, none} = this.elements;
    if (this.counts.length === 0) return;
    none.hidden = true;
    heat.hidden = false;
    const columns = this.experts;
    const cell = Math.max(2, Math.floor(368 / columns));
    const high = Math.max(4, Math.min(cell, Math.floor(320 / this.counts.length)));
    heat.width = columns * cell;
    heat.height = this.counts.length * high;
    const paint = heat.getContext("2d");
    let even = 0;
    let imbalance = 0;  // The busiest expert's tokens over the mean, of all layers.
    let most = {share: 0, layer: 0, expert: 0};
    this.counts.forEach((row, layer) => {
      const counts = Array.from({length: columns}, (_, expert) => row[expert] ?? 0);
      even += evenness(counts) / this.counts.length;
      const sum = counts.reduce((a, b) => a + b, 0);
      imbalance += (Math.max(...counts) * columns) / Math.max(1, sum) / this.counts.length;
      counts.forEach((count, expert) => {
        const share = count / Math.max(1, this.seen);
        if (share > most.share) most = {share, layer, expert};
        paint.fillStyle = `hsl(${250 - 200 * Math.sqrt(share)} 75% ${12 + 53 * Math.sqrt(share)}%)`;
        paint.fillRect(expert * cell, layer * high, cell - (cell > 6 ? 1 : 0), high - (high > 6 ? 1 : 0));
      });
    });
    const layer = this.layers[most.layer] ?? most.layer;
    note.textContent = `${this.counts.length} layers down, ${columns} experts across, ${this.seen} tokens. ` +
        `Evenness (entropy) ${(100 * even).toFixed(1)} %. Balance: a layer's busiest expert gets ` +
        `${imbalance.toFixed(2)} times the mean. Busiest: layer ${layer}, expert ${most.expert}, ` +
        `${(100 * most.share).toFixed(0)} % of tokens.`;
  }

  /// Says what the cell of the heat map at this place stands for.
  showCell(x, y) {
    const {heat, cell} = this.elements;
    const index = Math.floor((y / heat.clientHeight) * this.counts.length);
    const expert = Math.floor((x / heat.clientWidth) * this.experts);
    const count = this.counts[index]?.[expert] ?? 0;
    if (!this.counts[index] || expert < 0 || expert >= this.experts) return;
    cell.textContent = `Layer ${this.layers[index] ?? index}, expert ${expert}: ${count} of ${this.seen} tokens`;
  }

  indexOf(element) {
    return element.dataset?.index === undefined ? -1 : Number(element.dataset.index);
  }

  onKey(event) {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (!step || this.tokens.length === 0) return;
    event.preventDefault();
    this.select(Math.max(0, Math.min(this.tokens.length - 1, this.selected + step)));
  }

  /// Shows the token's experts and weights, a row a layer.
  select(index) {
    if (index < 0 || index === this.selected) return;
    const spans = this.elements.tokens.children;
    spans[this.selected]?.setAttribute("aria-selected", "false");
    this.selected = index;
    spans[index].setAttribute("aria-selected", "true");
    this.elements.tokens.setAttribute("aria-activedescendant", spans[index].id);
    spans[index].scrollIntoView({block: "nearest"});
    const token = this.tokens[index];
    const table = document.createElement("table");
    table.createCaption().textContent = `“${token.text}”`;
    token.experts.forEach((chosen, layer) => {
      const row = table.insertRow();
      row.insertCell().textContent = `layer ${this.layers[layer] ?? layer}`;
      const cell = row.insertCell();
      chosen.forEach((expert, i) => {
        const weight = token.weights[layer]?.[i] ?? 0;
        const bar = document.createElement("span");
        bar.className = "bar";
        bar.style.width = `${(4 * weight).toFixed(2)}em`;
        bar.style.background = color(expert, this.experts);
        cell.append(bar, ` ${expert}: ${weight.toFixed(2)}  `);
      });
    });
    this.elements.token.replaceChildren(token.experts.length > 0 ? table : "This model has no experts.");
  }
}

// Markdown to DOM nodes, for answers that are still being written: any beginning of a text renders.
// Nodes are built with textContent alone, so no text of a model can become markup.

function node(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}

const kInline = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*([^*\s](?:[\s\S]*?[^*\s])?)\*\*|\*([^*\s](?:[^*]*[^*\s])?)\*|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/;

function inline(text) {
  const nodes = [];
  for (let match; (match = kInline.exec(text)); text = text.slice(match.index + match[0].length)) {
    if (match.index > 0) nodes.push(text.slice(0, match.index));
    const [, , code, strong, emphasis, label, address] = match;
    if (code !== undefined) nodes.push(node("code", code));
    else if (strong !== undefined) nodes.push(node("strong", ...inline(strong)));
    else if (emphasis !== undefined) nodes.push(node("em", ...inline(emphasis)));
    else {
      const link = node("a", label);
      link.href = address;
      link.rel = "noopener noreferrer nofollow";
      link.target = "_blank";
      nodes.push(link);
    }
  }
  if (text) nodes.push(text);
  return nodes;
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

function table(lines) {
  const row = (line, tag) => node("tr", ...cells(line).map((cell) => node(tag, ...inline(cell))));
  return node("table", node("thead", row(lines[0], "th")),
              node("tbody", ...lines.slice(2).map((line) => row(line, "td"))));
}

const kItem = /^(\s*)([-*+]|\d+[.)])\s+(.*)$/;
const kFence = /^\s*(```+|~~~+)/;

function list(lines) {
  const [, indent, mark] = kItem.exec(lines[0]);
  const element = node(/\d/.test(mark) ? "ol" : "ul");
  if (/\d/.test(mark)) element.start = parseInt(mark, 10);
  let item = [];
  const flush = () => {
    if (item.length === 0) return;
    const [first, ...rest] = item;
    const deeper = rest.map((line) => line.replace(/^\s{1,4}/, ""));
    element.append(node("li", ...inline(first), ...blocks(deeper)));
    item = [];
  };
  for (const line of lines) {
    const match = kItem.exec(line);
    if (match && match[1].length <= indent.length) {
      flush();
      item.push(match[3]);
    } else {
      item.push(line);
    }
  }
  flush();
  return element;
}

function blocks(lines) {
  const nodes = [];
  let i = 0;
  const take = (while_true) => {
    const begin = i;
    while (i < lines.length && while_true(lines[i], i)) ++i;
    return lines.slice(begin, i);
  };
  while (i < lines.length) {
    const line = lines[i];
    const fence = kFence.exec(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (!line.trim()) {
      ++i;
    } else if (fence) {
      ++i;
      const code = take((l) => !l.trim().startsWith(fence[1]));
      ++i;
      nodes.push(node("pre", node("code", code.join("\n"))));
    } else if (heading) {
      ++i;
      nodes.push(node("h" + Math.min(6, heading[1].length + 2), ...inline(heading[2])));
    } else if (/^(-{3,}|\*{3,})$/.test(line.trim())) {
      ++i;
      nodes.push(node("hr"));
    } else if (/^\s*>/.test(line)) {
      const quote = take((l) => /^\s*>/.test(l)).map((l) => l.replace(/^\s*>\s?/, ""));
      nodes.push(node("blockquote", ...blocks(quote)));
    } else if (kItem.test(line)) {
      nodes.push(list(take((l) => kItem.test(l) || /^\s+\S/.test(l))));
    } else if (line.includes("|") && /^[\s|:-]*-[\s|:-]*$/.test(lines[i + 1] ?? "")) {
      nodes.push(table(take((l) => l.includes("|"))));
    } else {
      const begin = i;
      const text = take((l, at) => l.trim() && (at === begin ||
          !(kFence.test(l) || /^#{1,6}\s/.test(l) || kItem.test(l) || /^\s*>/.test(l))));
      nodes.push(node("p", ...inline(text.join("\n"))));
    }
  }
  return nodes;
}

/// Replaces the children of `element` by the rendered text.
export function renderMarkdown(element, text) {
  element.replaceChildren(...blocks(text.split("\n")));
}

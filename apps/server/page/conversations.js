// Conversations as trees, kept in the browser's storage: editing a question or asking for another
// answer adds a branch beside the old one and loses nothing.

const kKey = "moxie.conversations";

/// A turn: {id, parent, role, text, chosen}, `chosen` being the child that is shown.
export class Conversations {
  constructor() {
    try {
      this.all = JSON.parse(localStorage.getItem(kKey)) ?? [];
    } catch {
      this.all = [];
    }
    if (!Array.isArray(this.all)) this.all = [];
    if (this.all.length === 0) this.begin();
    this.current = this.all[0];
  }

  begin() {
    const empty = this.all.find((c) => c.turns.length === 1);
    this.current = empty ?? {id: Date.now(), turns: [{id: 0, parent: -1, role: "root", text: "", chosen: -1}]};
    if (!empty) this.all.unshift(this.current);
    this.save();
  }

  open(id) {
    this.current = this.all.find((c) => c.id === id) ?? this.current;
  }

  remove() {
    this.all = this.all.filter((c) => c !== this.current);
    if (this.all.length === 0) this.begin();
    this.current = this.all[0];
    this.save();
  }

  /// What a conversation is called: how it begins.
  static title(conversation) {
    return conversation.turns.find((turn) => turn.role === "user")?.text.slice(0, 40) || "(empty)";
  }

  turn(id) {
    return this.current.turns[id];
  }

  add(parent, role, text) {
    const turn = {id: this.current.turns.length, parent, role, text, chosen: -1};
    this.current.turns.push(turn);
    this.turn(parent).chosen = turn.id;
    return turn;
  }

  /// Takes back the turn that was added last to `conversation`.
  discard(conversation, turn) {
    conversation.turns.pop();
    const siblings = conversation.turns.filter((other) => other.parent === turn.parent);
    conversation.turns[turn.parent].chosen = siblings.at(-1)?.id ?? -1;
  }

  children(id) {
    return this.current.turns.filter((turn) => turn.parent === id);
  }

  /// The turns that are shown, first to last.
  path() {
    const turns = [];
    for (let id = this.turn(0).chosen; id >= 0; id = this.turn(id).chosen) turns.push(this.turn(id));
    return turns;
  }

  /// The turns that lead to this one, itself included.
  history(id) {
    const turns = [];
    for (; id > 0; id = this.turn(id).parent) turns.unshift(this.turn(id));
    return turns;
  }

  /// Shows the `step`-th branch after this turn's, round about.
  switchBranch(turn, step) {
    const siblings = this.children(turn.parent);
    const at = siblings.findIndex((sibling) => sibling.id === turn.id);
    this.turn(turn.parent).chosen = siblings[(at + step + siblings.length) % siblings.length].id;
    this.save();
  }

  /// False where the storage is full or forbidden: the conversation then lives as long as the page.
  save() {
    try {
      localStorage.setItem(kKey, JSON.stringify(this.all));
      return true;
    } catch {
      return false;
    }
  }
}

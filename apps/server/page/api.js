// The server's routes that the page uses.

export class ApiFailure extends Error {}

async function request(path, key, options = {}) {
  const headers = {...options.headers};
  if (key) headers.Authorization = `Bearer ${key}`;
  const response = await fetch(path, {...options, headers});
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch { /* The status says it. */ }
  throw new ApiFailure(message);
}

export async function listModels(key) {
  return (await (await request("/v1/models", key)).json()).data;
}

export async function readStats(key, model) {
  const {models} = await (await request("/moxie/stats", key)).json();
  return models.find(({name}) => name === model);
}

/// Streams an answer: calls onChunk(text, routing) for each piece. Resolves with {reason, timings}:
/// why it ended, and where its time went; rejects with ApiFailure, or AbortError after `signal`.
export async function streamAnswer(body, key, signal, onChunk) {
  const response = await request("/v1/chat/completions", key, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({...body, stream: true, stream_options: {include_usage: true}}),
    signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  let reason = null;
  let timings = null;
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return {reason, timings};
    pending += value;
    const events = pending.split("\n\n");
    pending = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trim()).join("\n");
      if (!data || data === "[DONE]") continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiFailure(chunk.error.message);
      const choice = chunk.choices?.[0];
      reason = choice?.finish_reason ?? reason;
      timings = chunk.moxie?.timings ?? timings;
      const text = choice?.delta?.content ?? "";
      const routing = chunk.moxie?.experts ? chunk.moxie : undefined;
      if (text || routing) onChunk(text, routing);
    }
  }
}

#include "server/openai_answer.h"

namespace moxie::server {

AnswerForm ReadAnswerForm(Fields& fields, const std::string& model, const RequestLimits& limits) {
  AnswerForm form;
  form.model = model;
  form.n = fields.Integer("n", 1, 1, limits.choices);
  form.stream = fields.Bool("stream", false);
  form.usage_chunk = fields.Within("stream_options").Bool("include_usage", false);
  return form;
}

OpenAiAnswer::OpenAiAnswer(ExchangePtr to, AnswerForm form, const Names& names, size_t choices)
    : Answer(std::move(to)),
      form_(std::move(form)),
      names_(names),
      id_(RandomId(names.id)),
      created_(UnixTime()),
      finished_(choices) {}

OrderedJson OpenAiAnswer::Head(const char* object) const {
  return {{"id", id_}, {"object", object}, {"created", created_}, {"model", form_.model}};
}

void OpenAiAnswer::WriteChunk(OrderedJson choice, const OrderedJson& extra) {
  OrderedJson chunk = Head(names_.chunk_object);
  chunk["choices"] = OrderedJson::array({std::move(choice)});
  if (!extra.is_null()) chunk.update(extra);
  exchange().Write(ServerSentEvent(chunk));
}

void OpenAiAnswer::OnEnd() {
  if (!form_.stream) {
    OrderedJson body = Head(names_.object);
    body["choices"] = TakeKept();
    body["usage"] = usage_.ToJson();
    return exchange().Send({.body = ToText(body)});
  }
  if (form_.usage_chunk) {
    OrderedJson chunk = Head(names_.chunk_object);
    chunk["choices"] = OrderedJson::array();
    chunk["usage"] = usage_.ToJson();
    exchange().Write(ServerSentEvent(chunk));
  }
  exchange().Write("data: [DONE]\n\n");
  exchange().EndStream();
}

}  // namespace moxie::server

#include "server/block_answer.h"

#include <utility>

namespace moxie::server {

void BlockAnswer::OnText(const std::string& text) {
  if (text.empty()) return;
  if (!std::exchange(in_text_, true)) BeginText();
  text_ += text;
  AddText(text);
}

void BlockAnswer::EndBlock() {
  if (std::exchange(in_text_, false)) EndText(text_);
  if (std::exchange(in_call_, false)) EndCall(parser_->calls()[calls_begun_ - 1]);
}

void BlockAnswer::OnToken(size_t /*choice*/, const Token& token) {
  if (!parser_) return OnText(token.text);
  const AnswerPiece piece = parser_->Add(token.text);
  OnText(piece.text);
  for (const AnswerPiece::CallPart& part : piece.calls) {
    if (part.index == calls_begun_) {
      EndBlock();
      in_call_ = true;
      ++calls_begun_;
      BeginCall(parser_->calls()[part.index]);
    }
    if (!part.arguments.empty()) AddArguments(part.arguments);
  }
}

void BlockAnswer::OnChoice(size_t /*choice*/, Completion completion) {
  if (parser_) OnText(parser_->Finish());
  EndBlock();
  Complete(completion, calls_begun_ > 0);
}

}  // namespace moxie::server

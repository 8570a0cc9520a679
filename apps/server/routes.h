#pragma once

#include "server/server.h"

namespace moxie::server {

// One function for each route. Each reads the call, and sends the answer now or later.

// completions.cc
void PostCompletions(Server& server, const Call& call);
// chat.cc
void PostChatCompletions(Server& server, const Call& call);
// embeddings.cc
void PostEmbeddings(Server& server, const Call& call);
// responses.cc
void PostResponses(Server& server, const Call& call);
// anthropic.cc
void PostMessages(Server& server, const Call& call);
void PostCountTokens(Server& server, const Call& call);
// info.cc
void GetProps(Server& server, const Call& call);
void GetHealth(Server& server, const Call& call);
void GetReady(Server& server, const Call& call);
void GetModels(Server& server, const Call& call);
void GetModel(Server& server, const Call& call);
void GetSlots(Server& server, const Call& call);
void PostReload(Server& server, const Call& call);
// stats.cc
void GetStats(Server& server, const Call& call);
void GetMetrics(Server& server, const Call& call);
// tokens.cc
void PostTokenize(Server& server, const Call& call);
void PostDetokenize(Server& server, const Call& call);
void GetTokenizerInfo(Server& server, const Call& call);
// page.cc
void GetPage(Server& server, const Call& call);

}  // namespace moxie::server

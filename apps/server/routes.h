#pragma once

#include "server/server.h"

namespace moxie::server {

// One function for each route. Each reads the call, and sends the answer now or later. Those named
// Prepare... read it in another thread, and return what is to be done in the server's.

// completions.cc
Continuation PrepareCompletions(Server& server, const Call& call);
// chat.cc
Continuation PrepareChatCompletions(Server& server, const Call& call);
// embeddings.cc
Continuation PrepareEmbeddings(Server& server, const Call& call);
// responses.cc
Continuation PrepareResponses(Server& server, const Call& call);
// anthropic.cc
Continuation PrepareMessages(Server& server, const Call& call);
Continuation PrepareCountTokens(Server& server, const Call& call);
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
Continuation PrepareTokenize(Server& server, const Call& call);
Continuation PrepareDetokenize(Server& server, const Call& call);
void GetTokenizerInfo(Server& server, const Call& call);
// page.cc
void GetPage(Server& server, const Call& call);

}  // namespace moxie::server

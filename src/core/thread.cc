#include "core/thread.h"

#include <system_error>
#include <utility>

namespace moxie {

Thread::Thread(std::function<void()> work)
    : work_(std::make_unique<std::function<void()>>(std::move(work))) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, static_cast<size_t>(kStackBytes));
  const auto run = [](void* function) -> void* {
    (*static_cast<std::function<void()>*>(function))();
    return nullptr;
  };
  const int error = pthread_create(&thread_, &attributes, run, work_.get());
  pthread_attr_destroy(&attributes);
  if (error != 0) throw std::system_error(error, std::generic_category(), "thread");
}

Thread::~Thread() {
  if (work_ != nullptr) pthread_join(thread_, nullptr);
}

}  // namespace moxie

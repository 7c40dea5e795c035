#pragma once
/// From a verifier of text to a verifier of rollouts.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/verify/verifier.hpp>

namespace rlvr {

/// Decodes a completion and judges its text against the prompt's answer. Models rollout_verifier.
///
/// `decode(std::span<const token>)` gives something convertible to std::string_view, a std::string for
/// instance; whether the end-of-sequence token appears in the text is its decision (it should not).
/// answers[i] belongs to prompt i.
template <class V, class Decode>
class decoded_verifier {
  static_assert(text_verifier<V>,
                "a verifier of text is called as `verdict operator()(std::string_view completion, std::string_view "
                "answer) const noexcept`");
  static_assert(std::is_invocable_r_v<std::string_view, const Decode&, std::span<const token>>,
                "decode is called as `std::string operator()(std::span<const token> completion) const`, or gives "
                "something else that converts to std::string_view");

 public:
  decoded_verifier(V verifier, Decode decode, std::vector<std::string> answers)
      : verifier_(std::move(verifier)), decode_(std::move(decode)), answers_(std::move(answers)) {}

  /// Throws std::invalid_argument for a prompt without answer, and whatever decode throws.
  verdict operator()(std::size_t prompt, std::span<const token> completion) const {
    require(prompt < answers_.size(), "decoded_verifier: prompt ", prompt, ", but there are ",
            answers_.size(), " answers");
    return verifier_(decode_(completion), answers_[prompt]);
  }

 private:
  V verifier_;
  Decode decode_;
  std::vector<std::string> answers_;
};

}  // namespace rlvr

#pragma once
/// The contents of the last \boxed{}.

#include <cstddef>
#include <optional>
#include <string_view>

namespace rlvr {

/// Where the contents of the last \boxed{} begin and end; nothing when there is no box or its braces do not
/// balance (an earlier box is not looked for then). One pass.
///
/// "\boxed " with a space takes precedence wherever it stands: what follows its last occurrence counts, up to
/// the next $. As last_boxed_only_string and remove_boxed of Hendrycks et al.'s MATH, of lm-eval and of verl,
/// where \fbox, which they find but cannot unwrap, gives nothing too.
constexpr std::optional<std::string_view> last_boxed(std::string_view text) {
  constexpr std::string_view spaced = "\\boxed ", braced = "\\boxed{";
  if (const std::size_t at = text.rfind(spaced); at != std::string_view::npos) {
    const std::string_view rest = text.substr(at + spaced.size());
    return rest.substr(0, rest.find('$'));
  }
  const std::size_t at = text.rfind("\\boxed");
  if (at == std::string_view::npos || text.substr(at, braced.size()) != braced) return std::nullopt;
  const std::size_t begin = at + braced.size();
  std::size_t open = 1;
  for (std::size_t i = begin; i < text.size(); ++i) {
    if (text[i] == '{') ++open;
    if (text[i] == '}' && --open == 0) return text.substr(begin, i - begin);
  }
  return std::nullopt;
}

}  // namespace rlvr

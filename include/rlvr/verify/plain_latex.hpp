#pragma once
/// LaTeX as the plain text that PRM800K's grader makes of it.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/verify/characters.hpp>

namespace rlvr::detail {

/// LaTeX as plain text, with the spellings that PRM800K's grader gives to symbols. Linear.
class plain_latex {
 public:
  /// Nothing for fractions and roots nested beyond 48 levels.
  static std::optional<std::string> of(std::string text) {
    replace_all(text, "\\tfrac", "\\frac");
    replace_all(text, "\\dfrac", "\\frac");
    replace_all(text, "\\frac", " \\frac");  // mixed numbers; and \\\\frac, which was escaped once too often
    plain_latex p(text);
    std::string out;
    p.convert(0, text.size(), out, 48);
    if (p.too_deep_) return std::nullopt;
    return out;
  }

 private:
  explicit plain_latex(std::string_view text) : text_(text), partner_(text.size(), text.size()) {
    std::vector<std::size_t> open;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\\') {
        ++i;
      } else if (text[i] == '{') {
        open.push_back(i);
      } else if (text[i] == '}' && !open.empty()) {
        partner_[open.back()] = i;
        open.pop_back();
      }
    }
  }

  void convert(std::size_t at, std::size_t end, std::string& out, int depth) {
    if (depth == 0) {
      too_deep_ = true;
      return;
    }
    while (at < end && !too_deep_) {
      const char c = text_[at];
      if (c == '\\')
        at = command(at + 1, end, out, depth);
      else if (++at; c == '&')
        out += matrices_ > 0 ? " " : "";
      else if (c == '~')
        out += ' ';
      else if (c != '{' && c != '}')
        out += c;
    }
  }

  /// The argument at `at`: a group, a command, or one character. Gives the place behind it.
  std::size_t argument(std::size_t at, std::size_t end, std::string& out, int depth) {
    while (at < end && is_blank(text_[at])) ++at;
    if (at >= end) return end;
    if (text_[at] == '{' && partner_[at] < end) {
      convert(at + 1, partner_[at], out, depth - 1);
      return partner_[at] + 1;
    }
    if (text_[at] == '\\') {
      if (depth == 1) too_deep_ = true;
      return too_deep_ ? end : command(at + 1, end, out, depth - 1);
    }
    const std::size_t length = first_character(text_.substr(at, end - at));
    out.append(text_.substr(at, length));
    return at + length;
  }

  std::size_t command(std::size_t at, std::size_t end, std::string& out, int depth) {
    struct spelling {
      std::string_view name, text;
    };
    static constexpr spelling spellings[] = {{"circ", "\xe2\x88\x98"},
                                             {"pi", "pi"},
                                             {"infty", "inf"},
                                             {"cup", "U"},
                                             {"cdot", "*"},
                                             {"times", "*"},
                                             {"pm", "\xc2\xb1"},
                                             {"mp", "\xe2\x88\x93"},
                                             {"leq", "\xe2\x89\xa4"},
                                             {"le", "\xe2\x89\xa4"},
                                             {"geq", "\xe2\x89\xa5"},
                                             {"ge", "\xe2\x89\xa5"},
                                             {"neq", "\xe2\x89\xa0"},
                                             {"ne", "\xe2\x89\xa0"},
                                             {"approx", "\xe2\x89\x88"},
                                             {"in", "\xe2\x88\x88"},
                                             {"sum", "\xe2\x88\x91"},
                                             {"int", "\xe2\x88\xab"},
                                             {"cap", "\xe2\x88\xa9"},
                                             {"angle", "\xe2\x88\xa0"},
                                             {"ldots", "\xe2\x80\xa6"},
                                             {"dots", "\xe2\x80\xa6"},
                                             {"alpha", "\xce\xb1"},
                                             {"beta", "\xce\xb2"},
                                             {"gamma", "\xce\xb3"},
                                             {"delta", "\xce\xb4"},
                                             {"epsilon", "\xcf\xb5"},
                                             {"theta", "\xce\xb8"},
                                             {"lambda", "\xce\xbb"},
                                             {"mu", "\xce\xbc"},
                                             {"rho", "\xcf\x81"},
                                             {"sigma", "\xcf\x83"},
                                             {"tau", "\xcf\x84"},
                                             {"phi", "\xcf\x95"},
                                             {"omega", "\xcf\x89"},
                                             {"sin", "sin"},
                                             {"cos", "cos"},
                                             {"tan", "tan"},
                                             {"cot", "cot"},
                                             {"sec", "sec"},
                                             {"csc", "csc"},
                                             {"arcsin", "arcsin"},
                                             {"arccos", "arccos"},
                                             {"arctan", "arctan"},
                                             {"sinh", "sinh"},
                                             {"cosh", "cosh"},
                                             {"tanh", "tanh"},
                                             {"ln", "ln"},
                                             {"log", "log"},
                                             {"exp", "exp"},
                                             {"min", "min"},
                                             {"max", "max"},
                                             {"gcd", "gcd"},
                                             {"quad", "  "},
                                             {"qquad", "    "}};
    const std::size_t begin = at;
    while (at < end && is_letter(text_[at])) ++at;
    const std::string_view name = text_.substr(begin, at - begin);
    if (name.empty()) {
      if (at >= end) return end;
      const char c = text_[at];
      if (c == '\\')
        out += matrices_ > 0 ? ';' : '\n';
      else if (c == ' ' || c == ',' || c == ';' || c == ':')
        out += ' ';
      else if (c == '[' || c == ']')
        out += '\n';
      else if (c == '$' || c == '%' || c == '&' || c == '_' || c == '#')
        out += c;
      return at + 1;
    }
    if (name == "frac") {
      for (int part = 0; part < 2; ++part) {
        std::string inside;
        at = argument(at, end, inside, depth);
        const bool one = character_count(inside) <= 1 || inside == "pi" || inside == "inf";
        out.append(one ? "" : "(").append(inside).append(one ? "" : ")").append(part == 0 ? "/" : "");
      }
      return at;
    }
    if (name == "sqrt") {
      std::string_view root = "sqrt";
      if (at + 2 < end && text_[at] == '[' && text_[at + 2] == ']') {
        if (text_[at + 1] == '3') root = "\xe2\x88\x9b";
        if (text_[at + 1] == '4') root = "\xe2\x88\x9c";
        at += 3;
      }
      std::string inside;
      at = argument(at, end, inside, depth);
      out.append(root).append("(").append(inside).append(")");
      return at;
    }
    if ((name == "begin" || name == "end") && at < end && text_[at] == '{' && partner_[at] < end) {
      const std::string_view environment = text_.substr(at + 1, partner_[at] - at - 1);
      if (environment.find("matrix") != std::string_view::npos) {
        out += name == "begin" ? "[" : "]";
        matrices_ += name == "begin" ? 1 : -1;
      }
      return partner_[at] + 1;
    }
    for (const spelling& s : spellings)
      if (name == s.name) {
        out += s.text;
        break;
      }
    return at;  // of any other command only the arguments stay
  }

  std::string_view text_;
  std::vector<std::size_t> partner_;  // of each opening brace; the size of the text without one
  int matrices_ = 0;
  bool too_deep_ = false;
};

}  // namespace rlvr::detail

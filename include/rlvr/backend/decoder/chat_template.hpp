#pragma once
/// Chat prompts as the published models were trained with them.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <rlvr/core/error.hpp>

namespace rlvr::decoder {

/// none: the text as it is. The others end where the model's answer begins.
enum class chat_template {
  none,
  qwen2_5,            ///< with the system message of Qwen2.5 where none is given
  qwen3,              ///< the model opens <think> itself
  qwen3_no_thinking,  ///< an empty <think> block stands before the answer
  r1_distill_qwen     ///< the prompt opens <think>: no completion holds the opening tag
};

/// The names of chat_template_named, for messages.
inline constexpr std::string_view chat_template_names = "none, qwen2.5, qwen3, qwen3-no-thinking, r1-distill-qwen";

/// A template by its name. Throws std::invalid_argument for another name.
inline chat_template chat_template_named(std::string_view name) {
  if (name == "none") return chat_template::none;
  if (name == "qwen2.5") return chat_template::qwen2_5;
  if (name == "qwen3") return chat_template::qwen3;
  if (name == "qwen3-no-thinking") return chat_template::qwen3_no_thinking;
  require(name == "r1-distill-qwen", "chat_template_named: \"", name, "\" is not one of ", chat_template_names);
  return chat_template::r1_distill_qwen;
}

enum class chat_role { system, user, assistant };

struct chat_message {
  chat_role role = chat_role::user;
  std::string content;
};

namespace detail {

inline std::string_view strip_newlines(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

/// What qwen3 shows of an earlier answer: what stands behind the last </think>, and before it, when the answer belongs
/// to the question that is being worked on, the thoughts before the first </think>.
inline std::string qwen3_answer(std::string_view content, bool keeps_thoughts) {
  constexpr std::string_view open = "<think>", close = "</think>";
  const std::size_t last = content.rfind(close);
  if (last == content.npos) return std::string(content);
  std::string_view thoughts = content.substr(0, content.find(close)), answer = content.substr(last + close.size());
  if (const std::size_t at = thoughts.rfind(open); at != thoughts.npos) thoughts.remove_prefix(at + open.size());
  thoughts = strip_newlines(thoughts);
  while (answer.starts_with('\n')) answer.remove_prefix(1);
  if (!keeps_thoughts || thoughts.empty()) return std::string(answer);
  return concat("<think>\n", thoughts, "\n</think>\n\n", answer);
}

}  // namespace detail

/// The text of a conversation up to where the assistant answers, special tokens written out. A system message may
/// only come first. The thoughts of earlier answers (all up to the last </think>) are left out, as the templates of
/// qwen3 and r1_distill_qwen do; qwen3 keeps them since the last user's message that is not a <tool_response>. With
/// `none` the contents are put together. Tools and their calls are not rendered.
/// Throws std::invalid_argument when the last message is not the user's, or a system message is not the first.
/// Source: the chat_template fields of the published tokenizer_config.json files.
inline std::string chat_prompt(chat_template how, std::span<const chat_message> messages) {
  using enum chat_template;
  require(!messages.empty() && messages.back().role == chat_role::user,
          "chat_prompt: the last message is not the user's");
  for (std::size_t i = 1; i < messages.size(); ++i)
    require(messages[i].role != chat_role::system, "chat_prompt: message ", i, " is a system message");
  std::string out;
  const auto say = [&](std::string_view role, std::string_view content) {
    ((((out += "<|im_start|>") += role) += '\n') += content) += "<|im_end|>\n";
  };
  if (how == r1_distill_qwen) out += "<｜begin▁of▁sentence｜>";
  if (how == qwen2_5 && messages.front().role != chat_role::system)
    say("system", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.");
  const bool is_qwen3 = how == qwen3 || how == qwen3_no_thinking;
  std::size_t question = messages.size() - 1;  // the last one that no tool has put
  for (std::size_t i = messages.size(); i-- > 0 && is_qwen3;) {
    const std::string_view content = messages[i].content;
    if (messages[i].role == chat_role::user &&
        !(content.starts_with("<tool_response>") && content.ends_with("</tool_response>"))) {
      question = i;
      break;
    }
  }
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const chat_message& m = messages[i];
    if (how == none) {
      out += m.content;
    } else if (how != r1_distill_qwen) {
      say(m.role == chat_role::system ? "system" : m.role == chat_role::user ? "user" : "assistant",
          is_qwen3 && m.role == chat_role::assistant ? detail::qwen3_answer(m.content, i > question) : m.content);
    } else if (m.role == chat_role::assistant) {
      const std::size_t thought = m.content.rfind("</think>");
      out += "<｜Assistant｜>";
      out += thought == m.content.npos ? m.content : m.content.substr(thought + std::string_view("</think>").size());
      out += "<｜end▁of▁sentence｜>";
    } else {
      if (m.role == chat_role::user) out += "<｜User｜>";
      out += m.content;
    }
  }
  if (how == r1_distill_qwen) return out + "<｜Assistant｜><think>\n";
  if (how != none) out += "<|im_start|>assistant\n";
  if (how == qwen3_no_thinking) out += "<think>\n\n</think>\n\n";
  return out;
}

/// chat_prompt of one question.
inline std::string chat_prompt(chat_template how, std::string_view question) {
  const chat_message message{chat_role::user, std::string(question)};
  return chat_prompt(how, std::span(&message, 1));
}

}  // namespace rlvr::decoder

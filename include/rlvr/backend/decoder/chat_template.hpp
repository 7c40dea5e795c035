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

/// The text of a conversation up to where the assistant answers, special tokens written out. A system message may
/// only come first. The thoughts of earlier answers (all up to the last </think>) are left out, as the templates of
/// qwen3 and r1_distill_qwen do. With `none` the contents are put together.
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
  for (const chat_message& m : messages) {
    std::string_view content = m.content;
    if (m.role == chat_role::assistant && how != none && how != qwen2_5)
      if (const std::size_t thought = content.rfind("</think>"); thought != content.npos) {
        content.remove_prefix(thought + std::string_view("</think>").size());
        while (how != r1_distill_qwen && content.starts_with('\n')) content.remove_prefix(1);
      }
    if (how == none) {
      out += content;
    } else if (how != r1_distill_qwen) {
      say(m.role == chat_role::system ? "system" : m.role == chat_role::user ? "user" : "assistant", content);
    } else {
      if (m.role != chat_role::system) out += m.role == chat_role::user ? "<｜User｜>" : "<｜Assistant｜>";
      out += content;
      if (m.role == chat_role::assistant) out += "<｜end▁of▁sentence｜>";
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

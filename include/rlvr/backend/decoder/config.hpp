#pragma once
/// The decoder's shape, read from and written as a Hugging Face config.json.

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::decoder {

/// The shape of a Llama/Qwen decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU.
/// model_type fixes which options are possible: llama has biases on q, k, v and o or on none; qwen2 on q, k
/// and v; qwen3 as llama, with an RMSNorm over each head's query and key before RoPE.
struct config {
  std::string model_type = "llama";  ///< llama, qwen2 or qwen3
  std::size_t vocab_size = 0;
  std::size_t hidden_size = 0;
  std::size_t intermediate_size = 0;  ///< width of the MLP
  std::size_t layers = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;  ///< divides heads
  std::size_t head_dim = 0;  ///< even; heads * head_dim may differ from hidden_size
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  bool tied_embeddings = false;  ///< the output matrix is the embedding matrix
  bool qkv_bias = false;
  bool output_bias = false;  ///< bias of o_proj
  bool qk_norm = false;      ///< RMSNorm over head_dim of every query and key
  std::size_t max_positions = 2048;
  std::vector<token> eos{};  ///< tokens that end a completion
  std::optional<token> bos{};
  std::optional<token> pad{};

  friend bool operator==(const config&, const config&) = default;
};

/// Throws input_error, naming `origin`, the field of config.json and its value, when the sizes make no
/// decoder or the options are not those of the model_type.
inline void validate(const config& c, const std::string& origin = "config") {
  const auto need = [&](bool ok, const auto&... parts) {
    if (!ok) throw input_error(concat(origin, ": ", parts...));
  };
  const auto extent = [&](std::string_view field, std::size_t value, std::size_t largest) {
    need(value >= 1 && value <= largest, field, " is ", value, ", expected 1 to ", largest);
  };
  const auto below_vocab = [&](std::string_view field, token t) {
    need(t >= 0 && static_cast<std::size_t>(t) < c.vocab_size, field, " is ", t, ", but vocab_size is ",
         c.vocab_size);
  };
  const bool llama = c.model_type == "llama", qwen2 = c.model_type == "qwen2",
             qwen3 = c.model_type == "qwen3";
  need(llama || qwen2 || qwen3, "model_type \"", c.model_type,
       "\" is not supported (llama, qwen2 and qwen3 are)");
  // With these limits no product of extents overflows.
  extent("vocab_size", c.vocab_size, 1 << 24);
  extent("hidden_size", c.hidden_size, 1 << 20);
  extent("intermediate_size", c.intermediate_size, 1 << 20);
  extent("num_hidden_layers", c.layers, 1 << 12);
  extent("num_attention_heads", c.heads, 1 << 12);
  extent("num_key_value_heads", c.kv_heads, 1 << 12);
  extent("head_dim", c.head_dim, 1 << 12);
  extent("max_position_embeddings", c.max_positions, std::size_t{1} << 31);
  need(c.heads % c.kv_heads == 0, "num_attention_heads is ", c.heads,
       ", not a multiple of num_key_value_heads ", c.kv_heads);
  need(c.head_dim % 2 == 0, "head_dim is ", c.head_dim, ", but rotary embeddings need an even one");
  need(c.rms_norm_eps > 0 && std::isfinite(c.rms_norm_eps), "rms_norm_eps is ", c.rms_norm_eps,
       ", expected a positive number");
  need(c.rope_theta > 0 && std::isfinite(c.rope_theta), "rope_theta is ", c.rope_theta,
       ", expected a positive number");
  need(qwen2 ? c.qkv_bias && !c.output_bias : c.qkv_bias == c.output_bias, "a ", c.model_type, " model ",
       qwen2 ? "has biases on q, k and v, and none on o" : "has biases on all of q, k, v and o, or on none");
  need(c.qk_norm == qwen3, "a ", c.model_type, " model has ",
       qwen3 ? "q_norm and k_norm" : "no q_norm or k_norm");
  for (token t : c.eos) below_vocab("eos_token_id", t);
  if (c.bos) below_vocab("bos_token_id", *c.bos);
  if (c.pad) below_vocab("pad_token_id", *c.pad);
}

namespace detail {

/// rope_theta and the kind of rotary scaling, from the top level, rope_scaling or rope_parameters (which
/// newer files may key by layer type).
inline double read_rope_theta(const field_reader& fields, const std::string& origin) {
  std::optional<double> theta = fields.number("rope_theta");
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* value = fields.find(name);
    if (!value) continue;
    if (!value->is_object()) fields.fail(name, *value, "an object");
    const auto full = value->find("full_attention");
    const field_reader rope(full == value->end() ? *value : *full, origin + ": " + name);
    for (const char* key : {"rope_type", "type"}) {
      const std::optional<std::string> type = rope.text(key);
      if (!type || *type == "default") continue;
      for (const char* known : {"linear", "dynamic", "yarn", "longrope", "su", "llama3", "proportional"})
        if (*type == known) rope.unsupported(key, *rope.find(key));
      throw input_error(concat(origin, ": ", name, ": unknown ", key, " \"", *type, "\""));
    }
    if (const std::optional<double> inner = rope.number("rope_theta")) {
      if (theta && *theta != *inner)
        throw input_error(concat(origin, ": rope_theta is ", *theta, ", but ", *inner, " in ", name));
      theta = inner;
    }
    if (rope.number("partial_rotary_factor").value_or(1) != 1)
      rope.unsupported("partial_rotary_factor", *rope.find("partial_rotary_factor"));
  }
  if (fields.number("partial_rotary_factor").value_or(1) != 1)
    fields.unsupported("partial_rotary_factor", *fields.find("partial_rotary_factor"));
  return theta.value_or(10000.0);
}

/// Refuses sliding windows that are in force. layer_types wins; without it qwen models slide from layer
/// max_window_layers on, if use_sliding_window says so.
inline void refuse_sliding_windows(const field_reader& fields, const config& c) {
  if (const nlohmann::json* types = fields.find("layer_types")) {
    if (!types->is_array()) fields.fail("layer_types", *types, "a list");
    for (const nlohmann::json& type : *types)
      if (type != "full_attention") fields.unsupported("layer_types", type);
    return;
  }
  const nlohmann::json* window = fields.find("sliding_window");
  const bool llama = c.model_type == "llama";
  if (window && fields.flag("use_sliding_window", llama) &&
      (llama || fields.size("max_window_layers").value_or(28) < c.layers))
    fields.unsupported("sliding_window", *window);
}

}  // namespace detail

/// Reads a config.json of a llama, qwen2 or qwen3 model. `origin` names the file in messages.
/// Absent fields get the defaults of transformers; fields that would change the computation in a way not
/// implemented here (scaled rotary embeddings, sliding windows, MLP biases, other activations, quantised
/// weights) are refused by name and value. Throws input_error.
inline config parse_config(std::string_view json_text, const std::string& origin) {
  const nlohmann::json root = parse_json(json_text, origin);
  const detail::field_reader fields(root, origin);
  config c;
  const std::optional<std::string> type = fields.text("model_type");
  if (!type) throw input_error(origin + ": no field \"model_type\"");
  c.model_type = *type;
  const bool qwen2 = c.model_type == "qwen2", qwen3 = c.model_type == "qwen3";
  if (c.model_type != "llama" && !qwen2 && !qwen3) fields.unsupported("model_type", *type);
  const std::string architecture = qwen2   ? "Qwen2ForCausalLM"
                                   : qwen3 ? "Qwen3ForCausalLM"
                                           : "LlamaForCausalLM";
  if (const nlohmann::json* a = fields.find("architectures"))
    if (*a != nlohmann::json::array({architecture}))
      fields.fail("architectures", *a, "[\"" + architecture + "\"]");
  if (fields.text("hidden_act").value_or("silu") != "silu")
    fields.unsupported("hidden_act", *fields.find("hidden_act"));
  if (fields.flag("mlp_bias", false)) fields.unsupported("mlp_bias", true);
  if (fields.find("quantization_config"))
    fields.unsupported("quantization_config", *fields.find("quantization_config"));

  c.vocab_size = fields.required_size("vocab_size");
  c.hidden_size = fields.required_size("hidden_size");
  c.intermediate_size = fields.required_size("intermediate_size");
  c.layers = fields.required_size("num_hidden_layers");
  c.heads = fields.required_size("num_attention_heads");
  c.kv_heads = fields.size("num_key_value_heads").value_or(c.heads);
  if (const std::optional<std::size_t> d = fields.size("head_dim")) {
    c.head_dim = *d;
  } else if (qwen3) {
    c.head_dim = 128;
  } else {
    if (c.heads == 0 || c.hidden_size % c.heads != 0)
      throw input_error(concat(origin, ": hidden_size ", c.hidden_size,
                               " is not a multiple of num_attention_heads ", c.heads,
                               " and there is no head_dim"));
    c.head_dim = c.hidden_size / c.heads;
  }
  c.rms_norm_eps = fields.number("rms_norm_eps").value_or(1e-6);
  c.rope_theta = detail::read_rope_theta(fields, origin);
  c.tied_embeddings = fields.flag("tie_word_embeddings", false);
  const bool attention_bias = fields.flag("attention_bias", false);
  c.qkv_bias = qwen2 || attention_bias;
  c.output_bias = !qwen2 && attention_bias;
  c.qk_norm = qwen3;
  c.max_positions = fields.size("max_position_embeddings").value_or(c.model_type == "llama" ? 2048 : 32768);
  c.eos = fields.tokens("eos_token_id");
  c.bos = fields.one_token("bos_token_id");
  c.pad = fields.one_token("pad_token_id");
  detail::refuse_sliding_windows(fields, c);
  validate(c, origin);
  return c;
}

/// The config.json of a model of this shape, as transformers reads it; parse_config gives `c` back.
/// torch_dtype: "float32" or "bfloat16", the element type of the weights beside it.
/// Throws input_error for an invalid config.
inline std::string config_json(const config& c, std::string_view torch_dtype = "float32") {
  validate(c);
  const bool qwen2 = c.model_type == "qwen2", qwen3 = c.model_type == "qwen3";
  const auto optional_token = [](const std::optional<token>& t) {
    return t ? nlohmann::ordered_json(*t) : nullptr;
  };
  nlohmann::ordered_json out;
  out["architectures"] = {qwen2 ? "Qwen2ForCausalLM" : qwen3 ? "Qwen3ForCausalLM" : "LlamaForCausalLM"};
  out["model_type"] = c.model_type;
  if (!qwen2) out["attention_bias"] = c.qkv_bias;
  out["bos_token_id"] = optional_token(c.bos);
  out["eos_token_id"] = nullptr;
  if (c.eos.size() == 1) out["eos_token_id"] = c.eos[0];
  if (c.eos.size() > 1) out["eos_token_id"] = c.eos;
  out["pad_token_id"] = optional_token(c.pad);
  out["head_dim"] = c.head_dim;
  out["hidden_act"] = "silu";
  out["hidden_size"] = c.hidden_size;
  out["intermediate_size"] = c.intermediate_size;
  out["max_position_embeddings"] = c.max_positions;
  out["num_attention_heads"] = c.heads;
  out["num_hidden_layers"] = c.layers;
  out["num_key_value_heads"] = c.kv_heads;
  out["rms_norm_eps"] = c.rms_norm_eps;
  out["rope_theta"] = c.rope_theta;
  out["tie_word_embeddings"] = c.tied_embeddings;
  out["torch_dtype"] = torch_dtype;
  out["vocab_size"] = c.vocab_size;
  return out.dump(2) + "\n";
}

}  // namespace rlvr::decoder

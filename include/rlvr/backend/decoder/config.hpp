#pragma once
/// The decoder's shape, read from and written as a Hugging Face config.json.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/rope.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::decoder {

/// The shape of a Llama/Qwen/OLMo decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU.
/// model_type fixes which options are possible: qwen2 has biases on q, k and v, the others on q, k, v and o or on
/// none; qwen3 has an RMSNorm over each head's query and key before RoPE; olmo2 and olmo3 have one over all queries
/// and one over all keys, and norms behind attention and MLP instead of before them. In olmo3 the scaling of RoPE
/// concerns only the layers that see everything.
struct config {
  std::string model_type = "llama";  ///< llama, qwen2, qwen3, olmo2 or olmo3
  std::size_t vocab_size = 0;
  std::size_t hidden_size = 0;
  std::size_t intermediate_size = 0;  ///< width of the MLP
  std::size_t layers = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;  ///< divides heads
  std::size_t head_dim = 0;  ///< even; heads * head_dim may differ from hidden_size
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  rope_scaling rope{};
  std::vector<std::size_t> windows{};  ///< [layers] latest positions that a layer sees, its own included; 0: all.
                                       ///< Empty: every layer sees all
  bool tied_embeddings = false;        ///< the output matrix is the embedding matrix
  bool qkv_bias = false;
  bool output_bias = false;  ///< bias of o_proj
  bool qk_norm = false;      ///< RMSNorm of queries and keys: of each head, with post_norm of all heads together
  bool post_norm = false;    ///< x + norm(f(x)) instead of x + f(norm(x))
  std::size_t max_positions = 2048;
  std::vector<token> eos{};  ///< tokens that end a completion
  std::optional<token> bos{};
  std::optional<token> pad{};

  std::size_t window(std::size_t layer) const { return windows.empty() ? 0 : windows[layer]; }
  /// Whether the scaling of RoPE concerns a layer.
  bool scales_rope(std::size_t layer) const { return model_type != "olmo3" || window(layer) == 0; }

  friend bool operator==(const config&, const config&) = default;
};

namespace detail {

/// What is fixed by the model_type.
struct family {
  std::string_view model_type, architecture;
  double eps;             ///< default of rms_norm_eps
  std::size_t positions;  ///< default of max_position_embeddings
};
inline constexpr family families[] = {{"llama", "LlamaForCausalLM", 1e-6, 2048},
                                      {"qwen2", "Qwen2ForCausalLM", 1e-6, 32768},
                                      {"qwen3", "Qwen3ForCausalLM", 1e-6, 32768},
                                      {"olmo2", "Olmo2ForCausalLM", 1e-5, 2048},
                                      {"olmo3", "Olmo3ForCausalLM", 1e-5, 2048}};
/// The family, or nullptr.
inline const family* find_family(std::string_view model_type) {
  for (const family& f : families)
    if (f.model_type == model_type) return &f;
  return nullptr;
}

}  // namespace detail

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
    need(t >= 0 && static_cast<std::size_t>(t) < c.vocab_size, field, " is ", t, ", but vocab_size is ", c.vocab_size);
  };
  const bool qwen2 = c.model_type == "qwen2", olmo = c.model_type == "olmo2" || c.model_type == "olmo3";
  need(detail::find_family(c.model_type), "model_type \"", c.model_type,
       "\" is not supported (llama, qwen2, qwen3, olmo2 and olmo3 are)");
  // With these limits no product of extents overflows.
  extent("vocab_size", c.vocab_size, 1 << 24);
  extent("hidden_size", c.hidden_size, 1 << 20);
  extent("intermediate_size", c.intermediate_size, 1 << 20);
  extent("num_hidden_layers", c.layers, 1 << 12);
  extent("num_attention_heads", c.heads, 1 << 12);
  extent("num_key_value_heads", c.kv_heads, 1 << 12);
  extent("head_dim", c.head_dim, 1 << 12);
  extent("max_position_embeddings", c.max_positions, std::size_t{1} << 31);
  need(c.heads % c.kv_heads == 0, "num_attention_heads is ", c.heads, ", not a multiple of num_key_value_heads ",
       c.kv_heads);
  need(c.head_dim % 2 == 0, "head_dim is ", c.head_dim, ", but rotary embeddings need an even one");
  need(c.rms_norm_eps > 0 && std::isfinite(c.rms_norm_eps), "rms_norm_eps is ", c.rms_norm_eps,
       ", expected a positive number");
  need(c.rope_theta > 0 && std::isfinite(c.rope_theta), "rope_theta is ", c.rope_theta, ", expected a positive number");
  need(qwen2 ? c.qkv_bias && !c.output_bias : c.qkv_bias == c.output_bias, "a ", c.model_type, " model ",
       qwen2 ? "has biases on q, k and v, and none on o" : "has biases on all of q, k, v and o, or on none");
  const bool normed = olmo || c.model_type == "qwen3";
  need(c.qk_norm == normed, "a ", c.model_type, " model has ", normed ? "q_norm and k_norm" : "no q_norm or k_norm");
  need(c.post_norm == olmo, "a ", c.model_type, " model has its norms ",
       olmo ? "behind attention and MLP" : "before attention and MLP");
  need(c.windows.empty() || c.windows.size() == c.layers, "windows for ", c.windows.size(), " of ", c.layers,
       " layers");
  const std::size_t width = c.windows.empty() ? 0 : *std::max_element(c.windows.begin(), c.windows.end());
  for (const std::size_t w : c.windows)
    need(w == 0 || w == width, "windows of ", w, " and ", width, ", expected one width");
  need(c.windows.empty() || (width > 0 && c.model_type != "llama" && c.model_type != "olmo2"), "a ", c.model_type,
       " model has no sliding windows of ", width);
  const rope_scaling& r = c.rope;
  if (r.kind == rope_kind::plain) {
    need(r == rope_scaling{}, "plain rotary embeddings have no parameters");
  } else {
    need(r.factor >= 1 && std::isfinite(r.factor), "the rotary factor is ", r.factor, ", expected 1 or more");
    need(r.original_positions >= 1 && r.original_positions <= std::size_t{1} << 31,
         "original_max_position_embeddings is ", r.original_positions, ", expected 1 to ", std::size_t{1} << 31);
    need(r.low_freq_factor > 0 && r.low_freq_factor < r.high_freq_factor && std::isfinite(r.high_freq_factor),
         "low_freq_factor is ", r.low_freq_factor, " and high_freq_factor ", r.high_freq_factor,
         ", expected 0 < low < high");
    need(r.beta_slow > 0 && r.beta_slow <= r.beta_fast && std::isfinite(r.beta_fast), "beta_slow is ", r.beta_slow,
         " and beta_fast ", r.beta_fast, ", expected 0 < slow <= fast");
    need(r.attention_factor > 0 && std::isfinite(r.attention_factor), "attention_factor is ", r.attention_factor,
         ", expected a positive number");
    need(c.rope_theta > 1, "rope_theta is ", c.rope_theta, ", but scaled rotary embeddings need one above 1");
  }
  for (token t : c.eos) below_vocab("eos_token_id", t);
  if (c.bos) below_vocab("bos_token_id", *c.bos);
  if (c.pad) below_vocab("pad_token_id", *c.pad);
}

namespace detail {

/// rope_theta and the scaling, from the top level, rope_scaling or rope_parameters (which newer files may key by
/// layer type: then only the layers that see everything may be scaled). Sets c.rope_theta and c.rope; reads
/// c.model_type and c.max_positions.
inline void read_rope(const field_reader& fields, const std::string& origin, config& c) {
  std::optional<double> theta = fields.number("rope_theta");
  const auto refuse_partial = [](const field_reader& at) {
    if (at.number("partial_rotary_factor").value_or(1) != 1)
      at.unsupported("partial_rotary_factor", *at.find("partial_rotary_factor"));
  };
  const auto read_theta = [&](const field_reader& at, const char* name) {
    const std::optional<double> inner = at.number("rope_theta");
    if (theta && inner && *theta != *inner)
      throw input_error(concat(origin, ": rope_theta is ", *theta, ", but ", *inner, " in ", name));
    if (inner) theta = inner;
    refuse_partial(at);
  };
  const auto read_kind = [&](const field_reader& at, const char* name) {
    rope_kind kind = rope_kind::plain;
    for (const char* key : {"rope_type", "type"}) {
      const std::optional<std::string> type = at.text(key);
      if (!type || *type == "default") continue;
      if (*type == "llama3" || *type == "yarn") {
        kind = *type == "yarn" ? rope_kind::yarn : rope_kind::llama3;
        continue;
      }
      for (const char* known : {"linear", "dynamic", "longrope", "su", "proportional"})
        if (*type == known) at.unsupported(key, *at.find(key));
      throw input_error(concat(origin, ": ", name, ": unknown ", key, " \"", *type, "\""));
    }
    return kind;
  };
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* value = fields.find(name);
    if (!value) continue;
    if (!value->is_object()) fields.fail(name, *value, "an object");
    const auto full = value->find("full_attention"), sliding = value->find("sliding_attention");
    const field_reader rope(full == value->end() ? *value : *full, origin + ": " + name);
    read_theta(rope, name);
    const rope_kind kind = read_kind(rope, name);
    if (sliding != value->end()) {
      const field_reader other(*sliding, origin + ": " + name + ": sliding_attention");
      read_theta(other, name);
      if (read_kind(other, name) != (c.model_type == "olmo3" ? rope_kind::plain : kind))
        fields.unsupported(name, *value);
    }
    if (kind == rope_kind::plain) continue;
    const auto required = [&](const char* field) {
      const std::optional<double> v = rope.number(field);
      if (!v) throw input_error(concat(origin, ": ", name, ": no field \"", field, "\""));
      return *v;
    };
    c.rope = {.kind = kind,
              .factor = required("factor"),
              .original_positions = rope.size("original_max_position_embeddings").value_or(c.max_positions)};
    if (kind == rope_kind::llama3) {
      c.rope.low_freq_factor = required("low_freq_factor");
      c.rope.high_freq_factor = required("high_freq_factor");
    } else {
      c.rope.beta_fast = rope.number("beta_fast").value_or(32);
      c.rope.beta_slow = rope.number("beta_slow").value_or(1);
      c.rope.truncate = rope.flag("truncate", true);
      const double mscale = rope.number("mscale").value_or(0), all_dim = rope.number("mscale_all_dim").value_or(0);
      c.rope.attention_factor =
          rope.number("attention_factor")
              .value_or(mscale != 0 && all_dim != 0 ? yarn_attention_factor(c.rope.factor, mscale) /
                                                          yarn_attention_factor(c.rope.factor, all_dim)
                                                    : yarn_attention_factor(c.rope.factor));
    }
  }
  refuse_partial(fields);
  c.rope_theta = theta.value_or(10000.0);
}

/// The sliding windows of the layers. layer_types wins; without it qwen models slide from layer max_window_layers on,
/// if use_sliding_window says so, and olmo3 models in all layers but every fourth. Reads c.model_type and c.layers.
inline std::vector<std::size_t> read_windows(const nlohmann::json& root, const field_reader& fields, const config& c) {
  const bool qwen = c.model_type == "qwen2" || c.model_type == "qwen3", olmo3 = c.model_type == "olmo3";
  const std::optional<std::size_t> stated =
      root.contains("sliding_window") ? fields.size("sliding_window") : std::optional<std::size_t>(4096);
  const bool slides = (olmo3 || (qwen && fields.flag("use_sliding_window", false))) && stated;
  if (slides && *stated == 0) fields.fail("sliding_window", *fields.find("sliding_window"), "at least 1");
  if (!qwen && !olmo3 && fields.find("sliding_window"))
    fields.unsupported("sliding_window", *fields.find("sliding_window"));
  std::vector<std::size_t> out(c.layers, 0);
  if (const nlohmann::json* types = fields.find("layer_types")) {
    if (!types->is_array() || types->size() != c.layers)
      fields.fail("layer_types", *types, concat("a list of ", c.layers));
    for (std::size_t i = 0; i < c.layers; ++i) {
      const nlohmann::json& type = (*types)[i];
      if (type == "full_attention") continue;
      if (type != "sliding_attention" || !slides) fields.unsupported("layer_types", type);
      out[i] = *stated;
    }
  } else if (slides) {
    const std::size_t first = olmo3 ? 0 : fields.size("max_window_layers").value_or(28);
    for (std::size_t i = first; i < c.layers; ++i)
      if (!olmo3 || (i + 1) % 4 != 0) out[i] = *stated;
  }
  return std::count(out.begin(), out.end(), 0) == static_cast<std::ptrdiff_t>(c.layers) ? std::vector<std::size_t>{}
                                                                                        : out;
}

}  // namespace detail

/// Reads a config.json of a model of one of the families. `origin` names the file in messages.
/// Absent fields get the defaults of transformers; fields that would change the computation in a way not
/// implemented here (other scalings of rotary embeddings, MLP biases, other activations, quantised weights) are
/// refused by name and value. Throws input_error.
inline config parse_config(std::string_view json_text, const std::string& origin) {
  const nlohmann::json root = parse_json(json_text, origin);
  const detail::field_reader fields(root, origin);
  config c;
  const std::optional<std::string> type = fields.text("model_type");
  if (!type) throw input_error(origin + ": no field \"model_type\"");
  c.model_type = *type;
  const bool qwen2 = c.model_type == "qwen2", qwen3 = c.model_type == "qwen3";
  const detail::family* family = detail::find_family(c.model_type);
  if (!family) fields.unsupported("model_type", *type);
  const std::string architecture(family->architecture);
  if (const nlohmann::json* a = fields.find("architectures"))
    if (*a != nlohmann::json::array({architecture})) fields.fail("architectures", *a, "[\"" + architecture + "\"]");
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
      throw input_error(concat(origin, ": hidden_size ", c.hidden_size, " is not a multiple of num_attention_heads ",
                               c.heads, " and there is no head_dim"));
    c.head_dim = c.hidden_size / c.heads;
  }
  c.rms_norm_eps = fields.number("rms_norm_eps").value_or(family->eps);
  c.tied_embeddings = fields.flag("tie_word_embeddings", false);
  const bool attention_bias = fields.flag("attention_bias", false);
  c.qkv_bias = qwen2 || attention_bias;
  c.output_bias = !qwen2 && attention_bias;
  c.post_norm = c.model_type == "olmo2" || c.model_type == "olmo3";
  c.qk_norm = qwen3 || c.post_norm;
  c.max_positions = fields.size("max_position_embeddings").value_or(family->positions);
  detail::read_rope(fields, origin, c);
  c.eos = fields.tokens("eos_token_id");
  c.bos = fields.one_token("bos_token_id");
  c.pad = fields.one_token("pad_token_id");
  if (c.layers <= 1 << 12) c.windows = detail::read_windows(root, fields, c);
  validate(c, origin);
  return c;
}

/// The config.json of a model of this shape, as transformers reads it; parse_config gives `c` back.
/// torch_dtype: "float32" or "bfloat16", the element type of the weights beside it.
/// Throws input_error for an invalid config.
inline std::string config_json(const config& c, std::string_view torch_dtype = "float32") {
  validate(c);
  const auto optional_token = [](const std::optional<token>& t) { return t ? nlohmann::ordered_json(*t) : nullptr; };
  nlohmann::ordered_json out;
  out["architectures"] = {detail::find_family(c.model_type)->architecture};
  out["model_type"] = c.model_type;
  if (c.model_type != "qwen2") out["attention_bias"] = c.qkv_bias;
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
  if (c.rope.kind == rope_kind::llama3)
    out["rope_scaling"] = {{"rope_type", "llama3"},
                           {"factor", c.rope.factor},
                           {"low_freq_factor", c.rope.low_freq_factor},
                           {"high_freq_factor", c.rope.high_freq_factor},
                           {"original_max_position_embeddings", c.rope.original_positions}};
  if (c.rope.kind == rope_kind::yarn)
    out["rope_scaling"] = {{"rope_type", "yarn"},
                           {"factor", c.rope.factor},
                           {"original_max_position_embeddings", c.rope.original_positions},
                           {"beta_fast", c.rope.beta_fast},
                           {"beta_slow", c.rope.beta_slow},
                           {"truncate", c.rope.truncate},
                           {"attention_factor", c.rope.attention_factor}};
  out["rope_theta"] = c.rope_theta;
  if (!c.windows.empty()) {
    out["layer_types"] = nlohmann::ordered_json::array();
    for (const std::size_t w : c.windows) {
      out["layer_types"].push_back(w > 0 ? "sliding_attention" : "full_attention");
      if (w > 0) out["sliding_window"] = w;
    }
    if (c.model_type != "olmo3") out["use_sliding_window"] = true;
  } else if (c.model_type == "olmo3") {
    out["layer_types"] = std::vector<std::string>(c.layers, "full_attention");
  }
  out["tie_word_embeddings"] = c.tied_embeddings;
  out["torch_dtype"] = torch_dtype;
  out["vocab_size"] = c.vocab_size;
  return out.dump(2) + "\n";
}

}  // namespace rlvr::decoder

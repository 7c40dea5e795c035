/// config.json: what is read, what is refused and why, what is written; the layout of the parameters.

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/core/random.hpp>

#include "catch.hpp"

using namespace rlvr::decoder;
using nlohmann::json;
using rlvr::token;

namespace {

json llama() {
  return json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 19, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "hidden_act": "silu", "eos_token_id": 1,
    "pad_token_id": 0, "bos_token_id": null, "max_position_embeddings": 64, "tie_word_embeddings": false})");
}
json qwen(const char* type) {
  json j = llama();
  j["model_type"] = type;
  j["architectures"] = {type == std::string("qwen2") ? "Qwen2ForCausalLM" : "Qwen3ForCausalLM"};
  return j;
}
json olmo(const char* type) {
  json j = llama();
  j["model_type"] = type;
  j["num_hidden_layers"] = 5;
  j["architectures"] = {type == std::string("olmo2") ? "Olmo2ForCausalLM" : "Olmo3ForCausalLM"};
  return j;
}
json with(json j, const char* field, json value) {
  j[field] = std::move(value);
  return j;
}
json without(json j, const char* field) {
  j.erase(field);
  return j;
}
config parse(const json& j) {
  return parse_config(j.dump(), "config.json");
}
std::string error_of(const json& j) {
  try {
    parse(j);
  } catch (const input_error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("decoder config: fields and their defaults") {
  const config c = parse(llama());
  CHECK(c.model_type == "llama");
  CHECK(c.vocab_size == 19);
  CHECK(c.hidden_size == 32);
  CHECK(c.intermediate_size == 48);
  CHECK(c.layers == 2);
  CHECK(c.heads == 4);
  CHECK(c.kv_heads == 2);
  CHECK(c.head_dim == 8);
  CHECK(c.rms_norm_eps == 1e-5);
  CHECK(c.rope_theta == 500000);
  CHECK(c.max_positions == 64);
  CHECK(c.eos == std::vector<token>{1});
  CHECK(c.pad == token{0});
  CHECK(!c.bos);
  CHECK((!c.tied_embeddings && !c.qkv_bias && !c.output_bias && !c.qk_norm));

  CHECK(parse(without(llama(), "num_key_value_heads")).kv_heads == 4);
  CHECK(parse(without(llama(), "rms_norm_eps")).rms_norm_eps == 1e-6);
  CHECK(parse(without(llama(), "rope_theta")).rope_theta == 10000);
  CHECK(parse(with(llama(), "rope_theta", 10000)).rope_theta == 10000);
  CHECK(parse(without(llama(), "max_position_embeddings")).max_positions == 2048);
  CHECK(parse(with(llama(), "eos_token_id", {1, 4})).eos == std::vector<token>{1, 4});
  CHECK(parse(with(llama(), "eos_token_id", nullptr)).eos.empty());
  CHECK(parse(with(llama(), "head_dim", 6)).head_dim == 6);
  CHECK(parse(with(llama(), "tie_word_embeddings", true)).tied_embeddings);
  const config biased = parse(with(llama(), "attention_bias", true));
  CHECK((biased.qkv_bias && biased.output_bias));

  const config two = parse(qwen("qwen2"));
  CHECK((two.qkv_bias && !two.output_bias && !two.qk_norm));
  const config three = parse(qwen("qwen3"));
  CHECK((!three.qkv_bias && !three.output_bias && three.qk_norm));
  CHECK(three.head_dim == 128);
}

TEST_CASE("decoder config: rotary embeddings in the three layouts") {
  const json base = without(llama(), "rope_theta");
  CHECK(parse(with(llama(), "rope_scaling", nullptr)).rope_theta == 500000);
  CHECK(parse(with(llama(), "rope_scaling", {{"type", "default"}})).rope_theta == 500000);
  CHECK(parse(with(base, "rope_scaling", {{"rope_type", "default"}, {"rope_theta", 7.0}})).rope_theta == 7);
  CHECK(parse(with(base, "rope_parameters", {{"rope_type", "default"}, {"rope_theta", 7.0}})).rope_theta ==
        7);
  CHECK(parse(with(base, "rope_parameters",
                   {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 7.0}}}}))
            .rope_theta == 7);
  CHECK(error_of(with(llama(), "rope_scaling", {{"rope_type", "dynamic"}, {"factor", 32}})) ==
        "config.json: rope_scaling: rope_type \"dynamic\" is not supported yet");
  CHECK(error_of(with(llama(), "rope_scaling", {{"type", "linear"}})) ==
        "config.json: rope_scaling: type \"linear\" is not supported yet");
  CHECK(error_of(with(llama(), "rope_scaling", {{"rope_type", "spiral"}})) ==
        "config.json: rope_scaling: unknown rope_type \"spiral\"");
  CHECK(error_of(with(llama(), "rope_parameters", {{"full_attention", {{"rope_type", "spiral"}}}})) ==
        "config.json: rope_parameters: unknown rope_type \"spiral\"");
  CHECK(error_of(with(llama(), "rope_parameters", {{"rope_theta", 7.0}})) ==
        "config.json: rope_theta is 500000, but 7 in rope_parameters");
  CHECK(error_of(with(llama(), "rope_scaling", 3)) == "config.json: rope_scaling is 3, expected an object");
  CHECK(error_of(with(llama(), "partial_rotary_factor", 0.5)) ==
        "config.json: partial_rotary_factor 0.5 is not supported yet");
  CHECK(error_of(with(llama(), "rope_parameters", {{"partial_rotary_factor", 0.5}})) ==
        "config.json: rope_parameters: partial_rotary_factor 0.5 is not supported yet");
}

TEST_CASE("decoder config: scaled rotary embeddings") {
  const json base = with(llama(), "max_position_embeddings", 4096);
  const config three = parse(with(base, "rope_scaling",
                                  {{"rope_type", "llama3"},
                                   {"factor", 32},
                                   {"low_freq_factor", 1},
                                   {"high_freq_factor", 4.0},
                                   {"original_max_position_embeddings", 8192}}));
  CHECK(three.rope == rope_scaling{.kind = rope_kind::llama3, .factor = 32, .original_positions = 8192});
  const config yarn = parse(with(base, "rope_scaling", {{"type", "yarn"}, {"factor", 8}, {"beta_fast", 16}}));
  CHECK(yarn.rope == rope_scaling{.kind = rope_kind::yarn,
                                  .factor = 8,
                                  .original_positions = 4096,
                                  .beta_fast = 16,
                                  .attention_factor = 1.2079441541679836});
  const json scaled = {{"rope_type", "yarn"}, {"factor", 8}, {"attention_factor", 1.5}, {"truncate", false}};
  CHECK(parse(with(base, "rope_scaling", scaled)).rope.attention_factor == 1.5);
  CHECK(!parse(with(base, "rope_scaling", scaled)).rope.truncate);
  CHECK(parse(with(base, "rope_scaling",
                   {{"rope_type", "yarn"}, {"factor", 8}, {"mscale", 2.0}, {"mscale_all_dim", 1.0}}))
            .rope.attention_factor == Approx((1 + 0.2 * std::log(8.0)) / (1 + 0.1 * std::log(8.0))));

  const auto fault = [&](json scaling) { return error_of(with(base, "rope_scaling", std::move(scaling))); };
  CHECK(fault({{"rope_type", "yarn"}}) == "config.json: rope_scaling: no field \"factor\"");
  CHECK(fault({{"rope_type", "llama3"}, {"factor", 8}}) == "config.json: rope_scaling: no field \"low_freq_factor\"");
  CHECK(fault({{"rope_type", "yarn"}, {"factor", 0.5}}) == "config.json: the rotary factor is 0.5, expected 1 or more");
  CHECK(fault({{"rope_type", "yarn"}, {"factor", 8}, {"beta_slow", 64}}) ==
        "config.json: beta_slow is 64 and beta_fast 32, expected 0 < slow <= fast");
  CHECK(fault({{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}}) ==
        "config.json: low_freq_factor is 4 and high_freq_factor 4, expected 0 < low < high");

  // Newer files key the parameters by layer type; which layers may be scaled is the family's.
  const json by_layer = {{"full_attention", scaled}, {"sliding_attention", {{"rope_type", "default"}}}};
  json three_layers = olmo("olmo3");
  three_layers["rope_parameters"] = by_layer;
  CHECK(parse(three_layers).rope.kind == rope_kind::yarn);
  CHECK((!parse(three_layers).scales_rope(0) && parse(three_layers).scales_rope(3)));
  json all_layers = qwen("qwen3");
  all_layers["rope_parameters"] = by_layer;
  CHECK_THROWS_WITH(parse(all_layers), Catch::Contains("is not supported yet"));
}

TEST_CASE("rope: the published frequencies") {
#ifdef RLVR_SHARED_DATA
  std::ifstream in(std::string(RLVR_SHARED_DATA) + "/rope_oracle.json");
#else
  std::ifstream in;
  in.setstate(std::ios::failbit);
#endif
  if (!in) {
    WARN("skipped: the folder of shared data is absent");
    return;
  }
  const json oracle = json::parse(in);
  for (const json& c : oracle["cases"]) {
    INFO(c["name"]);
    json j = with(llama(), "rope_theta", c["rope_theta"]);
    j["head_dim"] = c["head_dim"];
    json scaling = c;
    for (const char* field : {"name", "inv_freq", "attention_factor", "correction_range", "head_dim"})
      scaling.erase(field);
    j["rope_scaling"] = scaling;
    const config read = parse(j);
    CHECK(read.rope.attention_factor == Approx(c["attention_factor"].get<double>()).epsilon(1e-12));
    const std::vector<double> f = rope_frequencies(read.rope, read.rope_theta, read.head_dim);
    REQUIRE(f.size() == c["inv_freq"].size());
    for (std::size_t i = 0; i < f.size(); ++i) CHECK(f[i] == Approx(c["inv_freq"][i].get<double>()).epsilon(1e-6));
  }
}

TEST_CASE("decoder config: sliding windows") {
  using windows = std::vector<std::size_t>;
  const json window = with(with(qwen("qwen2"), "sliding_window", 16), "max_window_layers", 1);
  CHECK(parse(window).windows.empty());
  CHECK(parse(with(window, "use_sliding_window", false)).windows.empty());
  CHECK(parse(with(with(window, "use_sliding_window", true), "max_window_layers", 2)).windows.empty());
  const json on = with(window, "use_sliding_window", true);
  CHECK(parse(on).windows == windows{0, 16});
  CHECK((parse(on).window(0) == 0 && parse(on).window(1) == 16 && parse(window).window(1) == 0));
  CHECK(parse(without(on, "sliding_window")).windows == windows{0, 4096});
  CHECK(parse(with(on, "sliding_window", nullptr)).windows.empty());
  CHECK(parse(with(on, "layer_types", {"full_attention", "full_attention"})).windows.empty());
  CHECK(parse(with(on, "layer_types", {"sliding_attention", "full_attention"})).windows == windows{16, 0});
  CHECK(parse(olmo("olmo3")).windows == windows{4096, 4096, 4096, 0, 4096});
  CHECK(parse(olmo("olmo2")).windows.empty());

  CHECK(error_of(with(on, "sliding_window", 0)) == "config.json: sliding_window is 0, expected at least 1");
  CHECK(error_of(with(llama(), "sliding_window", 16)) == "config.json: sliding_window 16 is not supported yet");
  CHECK(error_of(with(window, "layer_types", {"full_attention", "sliding_attention"})) ==
        "config.json: layer_types \"sliding_attention\" is not supported yet");
  CHECK(error_of(with(on, "layer_types", {"chunked_attention", "full_attention"})) ==
        "config.json: layer_types \"chunked_attention\" is not supported yet");
  CHECK(error_of(with(on, "layer_types", 1)) == "config.json: layer_types is 1, expected a list of 2");
  CHECK(error_of(with(on, "layer_types", {"full_attention"})) ==
        "config.json: layer_types is [\"full_attention\"], expected a list of 2");
  config c = parse(on);
  c.windows = {3, 4};
  CHECK_THROWS_WITH(validate(c), "config: windows of 3 and 4, expected one width");
  c.windows = {3};
  CHECK_THROWS_WITH(validate(c), "config: windows for 1 of 2 layers");
  c = parse(llama());
  c.windows = {0, 4};
  CHECK_THROWS_WITH(validate(c), "config: a llama model has no sliding windows of 4");
}

TEST_CASE("decoder config: every family survives writing") {
  std::vector<json> all = {llama(), qwen("qwen2"), qwen("qwen3"), olmo("olmo2"), olmo("olmo3")};
  all.push_back(with(with(qwen("qwen3"), "use_sliding_window", true), "max_window_layers", 1));
  all.push_back(with(olmo("olmo3"), "layer_types", std::vector<std::string>(5, "full_attention")));
  for (const json& j : std::vector<json>(all)) {
    all.push_back(with(j, "rope_scaling",
                       {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}}));
    all.push_back(with(j, "rope_scaling", {{"rope_type", "yarn"}, {"factor", 3}, {"beta_slow", 0.5}}));
  }
  for (const json& j : all) {
    INFO(j.dump());
    const config c = parse(j);
    CHECK(parse_config(config_json(c), "again") == c);
  }
}

TEST_CASE("decoder config: what is refused, by name and value") {
  const std::vector<std::pair<json, std::string>> cases = {
      {with(llama(), "model_type", "gemma"), "model_type \"gemma\" is not supported yet"},
      {without(llama(), "model_type"), "no field \"model_type\""},
      {with(llama(), "model_type", 3), "model_type is 3, expected a string"},
      {with(llama(), "architectures", {"LlamaForSequenceClassification"}),
       "architectures is [\"LlamaForSequenceClassification\"], expected [\"LlamaForCausalLM\"]"},
      {with(llama(), "hidden_act", "gelu"), "hidden_act \"gelu\" is not supported yet"},
      {with(llama(), "mlp_bias", true), "mlp_bias true is not supported yet"},
      {with(llama(), "quantization_config", {{"bits", 4}}),
       "quantization_config {\"bits\":4} is not supported yet"},
      {without(llama(), "hidden_size"), "no field \"hidden_size\""},
      {with(llama(), "hidden_size", -32), "hidden_size is -32, expected a whole number that is not negative"},
      {with(llama(), "hidden_size", 32.5),
       "hidden_size is 32.5, expected a whole number that is not negative"},
      {with(llama(), "hidden_size", 30),
       "hidden_size 30 is not a multiple of num_attention_heads 4 and there is no head_dim"},
      {with(llama(), "num_attention_heads", 0),
       "hidden_size 32 is not a multiple of num_attention_heads 0 and there is no head_dim"},
      {with(llama(), "vocab_size", 0), "vocab_size is 0, expected 1 to 16777216"},
      {with(llama(), "num_hidden_layers", 5000), "num_hidden_layers is 5000, expected 1 to 4096"},
      {with(llama(), "num_key_value_heads", 3),
       "num_attention_heads is 4, not a multiple of num_key_value_heads 3"},
      {with(llama(), "num_key_value_heads", 0), "num_key_value_heads is 0, expected 1 to 4096"},
      {with(llama(), "head_dim", 7), "head_dim is 7, but rotary embeddings need an even one"},
      {with(llama(), "rms_norm_eps", -1), "rms_norm_eps is -1, expected a positive number"},
      {with(llama(), "rope_theta", 0), "rope_theta is 0, expected a positive number"},
      {with(llama(), "rope_theta", "big"), "rope_theta is \"big\", expected a number"},
      {with(llama(), "tie_word_embeddings", 1), "tie_word_embeddings is 1, expected true or false"},
      {with(llama(), "eos_token_id", 19), "eos_token_id is 19, but vocab_size is 19"},
      {with(llama(), "eos_token_id", {1, -1}),
       "eos_token_id is [1,-1], expected a token or a list of tokens"},
      {with(llama(), "eos_token_id", 4294967296),
       "eos_token_id is 4294967296, expected a token or a list of tokens"},
      {with(llama(), "pad_token_id", {1, 2}), "pad_token_id is [1,2], expected one token"},
      {json::array(), "not a JSON object"},
  };
  for (const auto& [j, message] : cases) CHECK(error_of(j) == "config.json: " + message);
}

TEST_CASE("decoder config: text that is not strict JSON") {
  const auto message = [](std::string_view text) -> std::string {
    try {
      parse_config(text, "c");
    } catch (const input_error& e) {
      return e.what();
    }
    return "no error";
  };
  CHECK(message("") == "c: not JSON (error at byte 1)");
  CHECK(message("{\"a\": 1,}") == "c: not JSON (error at byte 9)");
  CHECK(message("{} {}") == "c: not JSON (error at byte 4)");
  CHECK(message("{\"a\": 1, \"a\": 2}") == "c: key \"a\" appears twice");
  CHECK(message("{\"a\": {\"b\": 1}, \"b\": 1, \"c\": [{\"b\": 1}, {\"b\": 1}]}") ==
        "c: no field \"model_type\"");
  CHECK(message("{\"a\": 1e999}") == "c: a number in the JSON text is out of range");
  CHECK(message(std::string_view("{}\0x", 4)) == "c: not JSON (a NUL byte or a byte order mark)");
  CHECK(message("\xEF\xBB\xBF{}") == "c: not JSON (a NUL byte or a byte order mark)");
  CHECK(message("{\"a\": \"\xff\"}") == "c: not JSON (error at byte 8)");
  CHECK(message(std::string(100000, '[')) == "c: JSON nested deeper than 128");
}

TEST_CASE("decoder config: what is written is read back") {
  for (config c :
       {parse(llama()), parse(with(llama(), "attention_bias", true)), parse(qwen("qwen2")),
        parse(qwen("qwen3")), parse(with(with(llama(), "eos_token_id", {1, 3}), "bos_token_id", 2)),
        parse(with(with(llama(), "eos_token_id", nullptr), "tie_word_embeddings", true))}) {
    CHECK(parse_config(config_json(c), "x") == c);
    const json j = json::parse(config_json(c, "bfloat16"));
    CHECK(j["torch_dtype"] == "bfloat16");
    CHECK(j["hidden_act"] == "silu");
    CHECK(j["architectures"].size() == 1);
    c.kv_heads = 3;
    CHECK_THROWS_AS(config_json(c), input_error);
  }
}

TEST_CASE("decoder config: options that a model type does not have") {
  config c = parse(llama());
  c.output_bias = true;
  CHECK_THROWS_WITH(validate(c), "config: a llama model has biases on all of q, k, v and o, or on none");
  c = parse(llama());
  c.qk_norm = true;
  CHECK_THROWS_WITH(validate(c), "config: a llama model has no q_norm or k_norm");
  c = parse(qwen("qwen2"));
  c.output_bias = true;
  CHECK_THROWS_WITH(validate(c), "config: a qwen2 model has biases on q, k and v, and none on o");
  c = parse(qwen("qwen3"));
  c.qk_norm = false;
  CHECK_THROWS_WITH(validate(c), "config: a qwen3 model has q_norm and k_norm");
  c.model_type = "gpt2";
  CHECK_THROWS_WITH(layout(c), "config: model_type \"gpt2\" is not supported (llama, qwen2, qwen3, olmo2 and olmo3 are)");
}

TEST_CASE("decoder layout: names and shapes, side by side without gaps") {
  config c = parse(qwen("qwen3"));
  c.head_dim = 6;
  c.qkv_bias = c.output_bias = true;
  c.layers = 1;
  using shape = std::vector<std::size_t>;
  const std::vector<std::pair<std::string, shape>> expected = {
      {"model.embed_tokens.weight", {19, 32}},
      {"model.layers.0.input_layernorm.weight", {32}},
      {"model.layers.0.self_attn.q_proj.weight", {24, 32}},
      {"model.layers.0.self_attn.k_proj.weight", {12, 32}},
      {"model.layers.0.self_attn.v_proj.weight", {12, 32}},
      {"model.layers.0.self_attn.q_proj.bias", {24}},
      {"model.layers.0.self_attn.k_proj.bias", {12}},
      {"model.layers.0.self_attn.v_proj.bias", {12}},
      {"model.layers.0.self_attn.q_norm.weight", {6}},
      {"model.layers.0.self_attn.k_norm.weight", {6}},
      {"model.layers.0.self_attn.o_proj.weight", {32, 24}},
      {"model.layers.0.self_attn.o_proj.bias", {32}},
      {"model.layers.0.post_attention_layernorm.weight", {32}},
      {"model.layers.0.mlp.gate_proj.weight", {48, 32}},
      {"model.layers.0.mlp.up_proj.weight", {48, 32}},
      {"model.layers.0.mlp.down_proj.weight", {32, 48}},
      {"model.norm.weight", {32}},
      {"lm_head.weight", {19, 32}}};
  const auto slots = layout(c);
  REQUIRE(slots.size() == expected.size());
  std::size_t offset = 0;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    CHECK(slots[i].name == expected[i].first);
    CHECK(slots[i].shape == expected[i].second);
    CHECK(slots[i].offset == offset);
    offset += slots[i].size();
  }
  CHECK(parameter_count(slots) == offset);
  CHECK(parameter_count({}) == 0);
  c.tied_embeddings = true;
  CHECK(layout(c).back().name == "model.norm.weight");
  CHECK(layout(parse(llama())).size() == 1 + 2 * 9 + 2);

  c = parse(olmo("olmo2"));
  c.layers = 1;
  const std::vector<std::pair<std::string, shape>> post = {
      {"model.embed_tokens.weight", {19, 32}},
      {"model.layers.0.self_attn.q_proj.weight", {32, 32}},
      {"model.layers.0.self_attn.k_proj.weight", {16, 32}},
      {"model.layers.0.self_attn.v_proj.weight", {16, 32}},
      {"model.layers.0.self_attn.q_norm.weight", {32}},
      {"model.layers.0.self_attn.k_norm.weight", {16}},
      {"model.layers.0.self_attn.o_proj.weight", {32, 32}},
      {"model.layers.0.post_attention_layernorm.weight", {32}},
      {"model.layers.0.mlp.gate_proj.weight", {48, 32}},
      {"model.layers.0.mlp.up_proj.weight", {48, 32}},
      {"model.layers.0.mlp.down_proj.weight", {32, 48}},
      {"model.layers.0.post_feedforward_layernorm.weight", {32}},
      {"model.norm.weight", {32}},
      {"lm_head.weight", {19, 32}}};
  const auto other = layout(c);
  REQUIRE(other.size() == post.size());
  for (std::size_t i = 0; i < other.size(); ++i) {
    CHECK(other[i].name == post[i].first);
    CHECK(other[i].shape == post[i].second);
  }
}

TEST_CASE("decoder config: damaged text is refused or read, never worse") {
  const std::string good = llama().dump(1);
  const rlvr::random_key key(17);
  std::size_t refused = 0;
  for (std::uint64_t trial = 0; trial < 3000; ++trial) {
    std::string text = good;
    for (std::uint64_t flips = 0; flips <= trial % 3; ++flips)
      text[key.below(text.size(), 7 * trial + flips)] =
          static_cast<char>(key.below(256, 7 * trial + flips + 3'000'000));
    if (trial % 5 == 0) text.resize(key.below(text.size(), trial + 9'000'000));
    try {
      validate(parse_config(text, "config.json"));
    } catch (const input_error&) {
      ++refused;
    }
  }
  CHECK(refused > 1000);
}

#include <limits>
#include <string>

#include <nlohmann/json.hpp>

#include "../examples/dopr_report.hpp"
#include "catch.hpp"

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
using report::bound;

report::selection_comparison filled() {
  report::method_result grpo{.name = "GRPO, 64 prompts", .step_prompts = 64, .learning_rate = 1e-3};
  grpo.curve = {{0, {0.4, 0.3, 0.5}}, {1024, {0.5, 0.45, 0.55}}};
  grpo.rollouts_to_target = {{0.45, 3, 3, {512, 400, 624}, bound::exact},
                             {0.9, 3, 0, {1024, 1024, 1024}, bound::at_least}};
  grpo.saved = {{{1, 1, 1}, bound::exact}, {{1, 1, 1}, bound::unknown}};
  report::method_result dopr{.name = "DoPR", .learning_rate = 1e-4};
  dopr.curve = {{0, {0.4, 0.3, 0.5}}, {1024, {0.8, -infinity, infinity}}};
  dopr.rollouts_to_target = {{0.45, 3, 3, {256, 200, 312}, bound::exact},
                             {0.9, 3, 2, {900, 500, 1300}, bound::at_least}};
  dopr.saved = {{{2, 1.5, 2.5}, bound::exact}, {{1.25, 0.5, infinity}, bound::at_least}};
  report::pool_result pool;
  pool.name = "realistic";
  pool.prompts = 256;
  pool.methods = {grpo, dopr};
  pool.from_batch = pool.from_selection = dopr.saved;
  return {.rollouts = 1024,
          .group_size = 16,
          .seeds = 3,
          .tuning_seeds = 1,
          .pool_rollouts = 65536,
          .learning_rates = {1e-4, 1e-3},
          .targets = {0.45, 0.9},
          .pools = {pool}};
}

}  // namespace

TEST_CASE("dopr report: JSON, CSV and tables hold the same numbers", "[dopr]") {
  const report::selection_comparison r = filled();
  const nlohmann::json json = nlohmann::json::parse(report::to_json(r));
  CHECK(json["pool_rollouts"] == 65536);
  CHECK(json["pools"][0]["saved_by_selection"][1]["factor"] == 1.25);
  REQUIRE(json["methods"].size() == 2);
  const nlohmann::json& dopr = json["methods"][1];
  CHECK(dopr["name"] == "DoPR");
  CHECK(dopr["pool"] == "realistic");
  CHECK(dopr["curve"][0] == nlohmann::json({{"rollouts", 0.0}, {"accuracy", 0.4}, {"low", 0.3}, {"high", 0.5}}));
  CHECK(dopr["curve"][1]["low"].is_null());
  CHECK(dopr["rollouts_to_target"][1] == nlohmann::json({{"accuracy", 0.9},
                                                         {"rollouts", 900.0},
                                                         {"low", 500.0},
                                                         {"high", 1300.0},
                                                         {"bound", "at_least"},
                                                         {"reached", 2},
                                                         {"runs", 3}}));
  CHECK(dopr["saved"][1]["bound"] == "at_least");
  CHECK(dopr["saved"][1]["high"].is_null());

  CHECK(report::to_csv(r) ==
        "pool,method,rollouts,accuracy,low,high\n"
        "realistic,\"GRPO, 64 prompts\",0,0.400000,0.300000,0.500000\n"
        "realistic,\"GRPO, 64 prompts\",1024,0.500000,0.450000,0.550000\n"
        "realistic,\"DoPR\",0,0.400000,0.300000,0.500000\n"
        "realistic,\"DoPR\",1024,0.800000,,\n");
  const std::string table = report::to_table(r.pools[0], r.targets);
  CHECK_THAT(table,
             Catch::Contains("| DoPR | 0.0001 | 0.800 [-, -] | 0.3K [0.2K, 0.3K] | ≥ 0.9K [0.5K, 1.3K] (2/3) |"));
  CHECK_THAT(table, Catch::Contains("| GRPO, 64 prompts | 0.001 | 0.500 [0.450, 0.550] |"));
  CHECK_THAT(table, Catch::Contains("| DoPR | 2.00 [1.50, 2.50] | ≥ 1.25 [0.50, ∞] |"));
  CHECK_THAT(table, Catch::Contains("| of DoPR's: by selection |"));
  CHECK(report::to_text(r.pools[0].methods[0].saved[1]) == "?");
  CHECK(report::to_text(r.pools[0].methods[0].rollouts_to_target[1]) == "≥ 1.0K (0/3)");
  CHECK(report::at_grid_ends(r.pools[0], {1e-4, 5e-4, 1e-3}) == "GRPO, 64 prompts (0.001); DoPR (0.0001)");
  CHECK(report::at_grid_ends(r.pools[0], {1e-5, 1e-4, 1e-3}) == "GRPO, 64 prompts (0.001)");
  CHECK(report::at_grid_ends(r.pools[0], {1e-5, 1e-4, 1e-3, 1e-2}).empty());
  CHECK(report::to_text(report::factor_saved{{1.5, 0.5, 2}, bound::unknown}) == "? 1.50 [0.50, 2.00]");
  const std::string script = report::curves_script(r.pools[0]);
  CHECK_THAT(script, Catch::Contains("title 'GRPO, 64 prompts'"));
  CHECK_THAT(script, Catch::Contains("1024 0.8 0 1\n"));  // bands end at 0 and 1
}

TEST_CASE("dopr report: accuracy against the number of distinct prompts", "[dopr]") {
  report::distinct_report r{
      .rollouts = 2048, .group_size = 16, .seeds = 3, .history_rollouts = 4096, .base = {0.4, 0.3, 0.5}, .points = {}};
  r.points = {{1, "random", 1e-4, {0.5, 0.4, 0.6}}, {4, "historical variance", 3e-4, {0.7, 0.6, 0.8}}};
  const nlohmann::json json = nlohmann::json::parse(report::to_json(r));
  CHECK(json["base"]["accuracy"] == 0.4);
  CHECK(json["distinct_prompts"][1]["prompts"] == 4);
  CHECK(json["distinct_prompts"][1]["picked"] == "historical variance");
  CHECK(report::to_csv(r) ==
        "prompts,picked,accuracy,low,high\n1,random,0.500000,0.400000,0.600000\n"
        "4,historical variance,0.700000,0.600000,0.800000\n");
  CHECK_THAT(report::to_table(r), Catch::Contains("| 4 | historical variance | 0.0003 | 0.700 [0.600, 0.800] |"));
  CHECK_THAT(report::distinct_script(r), Catch::Contains("4 0.7 0.6 0.8\n"));
}

#include <chrono>
#include <cmath>
#include <cstdlib>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "../examples/gnuplot.hpp"
#include "../examples/pictures.hpp"
#include "../examples/progress.hpp"
#include "../examples/report.hpp"
#include "catch.hpp"
#include "scratch_folder.hpp"
#include <nlohmann/json.hpp>

namespace {

namespace files = std::filesystem;
constexpr double infinity = std::numeric_limits<double>::infinity();

std::set<std::string> keys_of(const nlohmann::json& object) {
  std::set<std::string> out;
  for (const auto& item : object.items()) out.insert(item.key());
  return out;
}

report::one_shot filled() {
  report::one_shot r;
  r.rollouts = 1024;
  r.prompts = 64;
  r.group_size = 16;
  r.seed = 18446744073709551615u;
  r.base = {0.4, 0.375, 0.425, 0.5};
  r.alpha = 2;
  r.status = "improved";
  r.landscape = {{0, 0.4, 0.375, 0.425, 0.5, 0, false},
                 {1, 0.45, 0.42, 0.48, 0.45, 0.01, false},
                 {2, 0.5, 0.47, 0.53, 0.4, 0.04, false},
                 {64, 0.1, 0.08, 0.12, 0.05, report::unknown, true}};
  r.confirmation = {0.4, 0.5, 0.1, 0.07, 0.13};
  r.test = {0.41, 0.49, 0.08, 0.06, 0.1};
  r.subset_cosine = {2, 0.75, {1, 0.75, 0.75, 1}};
  r.correct_incorrect_cosine = -0.9;
  r.noise_scale = 300;
  r.seconds = {0.5, 0.125, 0.25, 2};
  return r;
}

bool have_gnuplot() {
  try {
    report::require_gnuplot();
    return true;
  } catch (const std::runtime_error&) {
    WARN("pictures are not drawn: no gnuplot");
    return false;
  }
}

}  // namespace

TEST_CASE("report.json has the documented keys and values", "[report]") {
  const report::one_shot r = filled();
  const nlohmann::json j = nlohmann::json::parse(report::to_json(r));
  using set = std::set<std::string>;
  const set compared{"base_accuracy", "accuracy", "difference", "low", "high"};
  CHECK(keys_of(j) == set{"rollouts", "prompts", "group_size", "seed", "base", "alpha", "status", "landscape",
                          "confirmation", "test", "subset_cosine", "correct_incorrect_cosine", "noise_scale",
                          "seconds"});
  CHECK(keys_of(j["base"]) == set{"accuracy", "low", "high", "entropy"});
  CHECK(keys_of(j["landscape"][0]) == set{"alpha", "accuracy", "low", "high", "entropy", "kl", "collapsed"});
  CHECK(keys_of(j["confirmation"]) == compared);
  CHECK(keys_of(j["test"]) == compared);
  CHECK(keys_of(j["subset_cosine"]) == set{"subsets", "mean", "matrix"});
  CHECK(keys_of(j["seconds"]) == set{"sample", "verify", "gradient", "search"});
  CHECK(j["seed"] == 18446744073709551615u);
  CHECK(j["rollouts"] == 1024);
  CHECK(j["landscape"].size() == 4);
  CHECK(j["landscape"][2]["accuracy"] == 0.5);
  CHECK(j["landscape"][3]["collapsed"] == true);
  CHECK(j["test"]["difference"] == 0.08);
  CHECK(j["subset_cosine"]["matrix"] == nlohmann::json({{1.0, 0.75}, {0.75, 1.0}}));
  CHECK(j["seconds"]["search"] == 2.0);
}

TEST_CASE("report.json writes null for what is not finite, and advice when there is some", "[report]") {
  report::one_shot r = filled();
  CHECK(nlohmann::json::parse(report::to_json(r))["landscape"][3]["kl"].is_null());
  r.noise_scale = infinity;
  r.base.low = -infinity;
  r.confirmation = {};
  r.subset_cosine.matrix[1] = report::unknown;
  r.status = "no_improvement";
  r.advice = "Take more rollouts.";
  const nlohmann::json j = nlohmann::json::parse(report::to_json(r));
  CHECK(j["noise_scale"].is_null());
  CHECK(j["base"]["low"].is_null());
  for (const auto& item : j["confirmation"].items()) CHECK(item.value().is_null());
  CHECK(j["subset_cosine"]["matrix"][0][1].is_null());
  CHECK(j["advice"] == "Take more rollouts.");
  const nlohmann::json empty = nlohmann::json::parse(report::to_json({}));
  CHECK(empty["landscape"].empty());
  CHECK(empty["subset_cosine"]["matrix"].empty());
}

TEST_CASE("landscape.csv reads back as the same doubles", "[report]") {
  std::vector<report::landscape_point> points = filled().landscape;
  points[1].alpha = 0.1 + 0.2;
  points[1].low = -infinity;
  const std::string csv = report::to_csv(points);
  CHECK(csv.substr(0, csv.find('\n')) == "alpha,accuracy,low,high,entropy,kl,collapsed");
  std::vector<std::vector<std::string>> rows;
  for (std::size_t at = csv.find('\n') + 1; at < csv.size();) {
    const std::size_t end = csv.find('\n', at);
    REQUIRE(end != std::string::npos);
    std::vector<std::string> cells(1);
    for (char c : csv.substr(at, end - at)) c == ',' ? cells.emplace_back() : cells.back() += c;
    REQUIRE(cells.size() == 7);
    rows.push_back(cells);
    at = end + 1;
  }
  REQUIRE(rows.size() == 4);
  CHECK(std::strtod(rows[1][0].c_str(), nullptr) == 0.1 + 0.2);
  CHECK(rows[1][2].empty());
  CHECK(rows[3][5].empty());
  CHECK(rows[2][6] == "false");
  CHECK(rows[3][6] == "true");
}

TEST_CASE("The table marks the chosen alpha and what collapsed, and shows no nan", "[report]") {
  const std::string table = report::to_table(filled());
  const std::size_t arrow = table.find("->");
  REQUIRE(arrow != std::string::npos);
  CHECK(table.find("->", arrow + 1) == std::string::npos);
  CHECK(table.substr(arrow, table.find('\n', arrow) - arrow).find("0.5000") != std::string::npos);
  CHECK(table.substr(table.rfind("64")).find("collapsed") != std::string::npos);
  CHECK(table.find("nan") == std::string::npos);
  CHECK(report::to_sentence(filled().test) == "0.4100 -> 0.4900, difference +0.0800 [+0.0600, +0.1000]");
  CHECK(report::to_sentence({}) == "- -> -, difference - [-, -]");
}

TEST_CASE("Both pictures are drawn as SVG, whatever is missing from the report", "[report]") {
  if (!have_gnuplot()) return;
  const rlvr::testing::scratch_folder folder;
  const auto drawn = [&](const std::string& script) {
    report::draw(script, folder.path / "p.svg");
    std::ifstream in(folder.path / "p.svg");
    const std::string svg{std::istreambuf_iterator<char>(in), {}};
    CHECK(svg.find("</svg>") != std::string::npos);
    CHECK(std::distance(files::directory_iterator(folder.path), files::directory_iterator()) == 1);
    return svg;
  };
  const std::string full = drawn(report::landscape_script(filled()));
  CHECK(full.find("α = 2") != std::string::npos);
  CHECK(full.find("collapsed") != std::string::npos);
  CHECK(full.find("0.490") != std::string::npos);
  CHECK(drawn(report::cosine_script(filled())).find("0.75") != std::string::npos);

  report::one_shot unknown;
  unknown.status = "no_signal";
  CHECK(drawn(report::landscape_script(unknown)).find("No step was tried") != std::string::npos);
  drawn(report::cosine_script(unknown));
  unknown.landscape = {{0}, {1}, {2}};  // every value unknown
  unknown.subset_cosine = {2, report::unknown, std::vector<double>(4, report::unknown)};
  CHECK(drawn(report::landscape_script(unknown)).find("no signal") != std::string::npos);
  drawn(report::cosine_script(unknown));
  unknown.landscape = {{1, 0.5, 0.5, 0.5, 0.5, 0.5}};  // one point, equal values
  drawn(report::landscape_script(unknown));
  unknown.subset_cosine = {2, -0.5, {1, -0.5, -0.5, 1}};
  CHECK(drawn(report::cosine_script(unknown)).find("-0.50") != std::string::npos);
}

TEST_CASE("A script that gnuplot cannot draw is a runtime_error with its words", "[report]") {
  if (!have_gnuplot()) return;
  const rlvr::testing::scratch_folder folder;
  CHECK_THROWS_WITH(report::draw("set nonsense 1\n", folder.path / "p.svg"), Catch::Contains("p.svg: ") );
  CHECK_THROWS_AS(report::draw("", folder.path / "nowhere" / "p.svg"), std::runtime_error);
}

TEST_CASE("Without gnuplot there is a sentence that says so", "[report]") {
  const char* before = std::getenv("PATH");
  const std::string path = before ? before : "";
  setenv("PATH", "/nonexistent", 1);
  CHECK_THROWS_WITH(report::require_gnuplot(), Catch::Contains("gnuplot is not installed"));
  setenv("PATH", path.c_str(), 1);
}

TEST_CASE("Progress: about ten lines a stage where there is no terminal", "[report]") {
  std::string shown;
  report::progress::clock::time_point now{};
  report::progress bar(report::display::lines, [&](std::string_view text) { shown += text; }, [&] { return now; });
  for (std::size_t i = 0; i <= 1000; ++i) {
    bar.update("sampling", i, 1000);
    now += std::chrono::milliseconds(100);
  }
  bar.update("search", 1, 2);
  bar.finish();
  CHECK(std::count(shown.begin(), shown.end(), '\n') == 11);
  CHECK(shown.find("sampling     100/1000  10.0 s, about 1:30 min left\n") == 0);
  CHECK(shown.find("sampling     1000/1000  1:40 min\n") != std::string::npos);
  CHECK(shown.find("search       1/2") != std::string::npos);
  CHECK(shown.find('\r') == std::string::npos);
}

TEST_CASE("Progress: one line that redraws itself on a terminal, at most twenty times a second", "[report]") {
  std::vector<std::string> shown;
  report::progress::clock::time_point now{};
  {
    report::progress bar(report::display::terminal, [&](std::string_view text) { shown.emplace_back(text); },
                         [&] { return now; });
    for (std::size_t i = 0; i < 100; ++i) {
      bar.update("sampling", i, 100);
      now += std::chrono::milliseconds(10);
    }
    CHECK(shown.size() == 20);
    for (const std::string& text : shown) CHECK(text.front() == '\r');
    bar.update("gradient", 0, 0);  // ends the unfinished line first; nothing to do is done
    CHECK(shown[20] == "\n");
    CHECK(shown[21].find("gradient") != std::string::npos);
    CHECK(shown.back() == "\n");
    bar.update("search", 1, 3);
  }
  CHECK(shown.back() == "\n");  // the destructor leaves the terminal on a fresh line
}

/// DoPR against other ways to choose prompts, on the example task: rollouts until an accuracy is reached. With
/// --distinct-prompts: what accuracy a fixed number of rollouts gives when few distinct prompts are used.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/eigen/thread_pool.hpp>
#include <rlvr/optimize/adamw.hpp>
#include <rlvr/select/dopr.hpp>
#include <rlvr/tokenizer/folder.hpp>
#include <rlvr/train/dopr.hpp>

#include "command_line.hpp"
#include "devices.hpp"
#include "dopr_pools.hpp"
#include "dopr_report.hpp"
#include "dopr_runs.hpp"
#include "gnuplot.hpp"
#include "progress.hpp"

namespace {

namespace files = std::filesystem;
using namespace dopr_runs;

constexpr std::uint64_t tuning_seed = 1000;  // and up: never reported

struct options {
  files::path here = files::path(__FILE__).parent_path();
  std::string model = here / "models" / "noisy", out, pool = "all", device = "cpu";
  files::path data = here / "data";
  std::size_t rollouts = 12288, seeds = 3, tuning_seeds = 1, pool_size = 256, test_prompts = 512, threads = 2;
  std::vector<double> learning_rates{1e-4, 2e-4, 4e-4, 1e-3}, targets{0.6, 0.7, 0.8};
  double wrong = 0.2;
  bool full = false, distinct = false;
};

/// Runs job(i) for all i on so many threads, and shows how far they are.
void in_parallel(const char* what, std::size_t count, std::size_t threads,
                 const std::function<void(std::size_t)>& job) {
  report::progress bar;
  std::mutex one_at_a_time;
  std::size_t done = 0;
  bar.update(what, 0, count);
  rlvr::eigen::thread_pool(threads).parallel_for(count, [&](std::size_t i, std::size_t) {
    job(i);
    const std::lock_guard lock(one_at_a_time);
    bar.update(what, ++done, count);
  });
}

double mean_accuracy(const run_result& r) {
  double sum = 0;
  for (const report::look& l : r.looks) sum += l.accuracy;
  return sum / static_cast<double>(r.looks.size());
}

/// The step size whose runs have the largest mean accuracy on validation prompts over the whole run.
/// runs: [learning_rates, seeds].
double best_rate(const std::vector<double>& rates, std::span<const run_result> runs) {
  const std::size_t seeds = runs.size() / rates.size();
  double best = -1, rate = rates.front();
  for (std::size_t r = 0; r < rates.size(); ++r) {
    double sum = 0;
    for (std::size_t s = 0; s < seeds; ++s) sum += mean_accuracy(runs[r * seeds + s]);
    if (sum > best) best = sum, rate = rates[r];
  }
  return rate;
}

report::method_result summarise(const method& m, double rate, std::span<const run_result> runs) {
  report::method_result out{.name = m.name, .step_prompts = m.step_prompts, .learning_rate = rate};
  for (std::size_t i = 0; i < runs[0].looks.size(); ++i) {
    std::vector<double> values;
    for (const run_result& r : runs) values.push_back(r.looks[i].accuracy);
    out.curve.push_back({runs[0].looks[i].rollouts, report::accuracy_interval(values)});
  }
  for (const run_result& r : runs) {
    out.kept += r.kept / static_cast<double>(runs.size());
  }
  return out;
}

template <class Device>
report::pool_result compare_on(const workshop<Device>& shop, const options& o, chain::pool_kind kind) {
  // A pool per seed: its prompts are part of what varies.
  const std::size_t seeds = o.seeds + o.tuning_seeds;
  const auto seed_of = [&](std::size_t s) { return s < o.seeds ? s + 1 : tuning_seed + s - o.seeds; };
  std::vector<std::vector<chain::task_prompt>> tasks;
  std::vector<prompt_set> pools;
  for (std::size_t s = 0; s < seeds; ++s) {
    tasks.push_back(chain::make_pool({.kind = kind, .size = o.pool_size, .wrong = o.wrong, .seed = seed_of(s)},
                                     shop.train.prompts, shop.train.answers, shop.base_rates));
    pools.push_back(shop.set_of(tasks.back()));
  }
  report::pool_result out;
  out.name = chain::to_string(kind);
  out.prompts = o.pool_size;
  {
    auto policy = shop.policy(o.threads);
    std::vector<double> scales;
    for (std::size_t s = 0; s < o.seeds; ++s) {
      scales.push_back(noise_scale(policy, pools[s], seed_of(s)));
      for (double rate : pass_rates(policy, pools[s], seed_of(s))) {
        const double one = 1 / static_cast<double>(o.seeds * o.pool_size);
        (rate == 0 ? out.hopeless : rate == 1 ? out.always : out.learnable) += one;
      }
    }
    std::sort(scales.begin(), scales.end());
    out.noise_scale = scales[scales.size() / 2];
  }
  for (const chain::task_prompt& t : tasks[0]) out.wrong += t.wrong / static_cast<double>(o.pool_size);

  const prompt_set validation = shop.first(shop.validation, o.test_prompts),
                   test = shop.first(shop.test, o.test_prompts);
  const std::size_t rates = o.learning_rates.size(), tuning = rates * o.tuning_seeds;
  std::vector<run_result> tuned(method_count * tuning), runs(method_count * o.seeds);
  const auto run = [&](std::size_t m, std::size_t s, double rate, const prompt_set& held_out) {
    return train(shop, methods[m], pools[s], tasks[s], held_out, o.rollouts, rate, seed_of(s));
  };
  in_parallel((out.name + ": step sizes").c_str(), tuned.size(), o.threads, [&](std::size_t i) {
    const std::size_t m = i / tuning, rate = i % tuning / o.tuning_seeds, s = i % o.tuning_seeds;
    tuned[i] = run(m, o.seeds + s, o.learning_rates[rate], validation);
  });
  std::vector<double> best(method_count);
  for (std::size_t m = 0; m < method_count; ++m)
    best[m] = best_rate(o.learning_rates, std::span<const run_result>(tuned).subspan(m * tuning, tuning));
  in_parallel((out.name + ": runs").c_str(), runs.size(), o.threads,
              [&](std::size_t i) { runs[i] = run(i / o.seeds, i % o.seeds, best[i / o.seeds], test); });

  for (std::size_t m = 0; m < method_count; ++m)
    out.methods.push_back(
        summarise(methods[m], best[m], std::span<const run_result>(runs).subspan(m * o.seeds, o.seeds)));
  const double horizon = runs[0].looks.back().rollouts;
  for (double target : o.targets) {
    std::vector<std::vector<std::optional<double>>> times(method_count);
    for (std::size_t i = 0; i < runs.size(); ++i)
      times[i / o.seeds].push_back(report::first_reach(runs[i].looks, target));
    for (std::size_t m = 0; m < method_count; ++m) {
      out.methods[m].rollouts_to_target.push_back(report::time_to(target, times[m], horizon));
      out.methods[m].saved.push_back(report::saved(times[0], times[m], horizon));
    }
    out.from_batch.push_back(report::saved(times[0], times[single], horizon));
    out.from_selection.push_back(report::saved(times[single], times[dopr_method], horizon));
  }
  return out;
}

template <class Device>
void run_comparison(const workshop<Device>& shop, const options& o) {
  std::vector<chain::pool_kind> kinds;
  std::vector<std::string> entries{"report.json", "curves.csv"};
  for (chain::pool_kind kind :
       {chain::pool_kind::realistic, chain::pool_kind::balanced, chain::pool_kind::mislabelled}) {
    entries.push_back("accuracy_" + std::string(chain::to_string(kind)) + ".svg");
    if (o.pool == "all" || o.pool == chain::to_string(kind)) kinds.push_back(kind);
  }
  rlvr::decoder::staged_folder folder(o.out, entries);
  report::selection_comparison r{.rollouts = o.rollouts,
                                 .group_size = group_size,
                                 .seeds = o.seeds,
                                 .tuning_seeds = o.tuning_seeds,
                                 .pool_rollouts = shop.train.size() * group_size,
                                 .learning_rates = o.learning_rates,
                                 .targets = o.targets,
                                 .pools = {}};
  for (chain::pool_kind kind : kinds) {
    r.pools.push_back(compare_on(shop, o, kind));
    const report::pool_result& p = r.pools.back();
    std::printf(
        "\nBase pass rates in the pool: %.0f%% hopeless, %.0f%% learnable, %.0f%% always right; wrong labels "
        "%.0f%%. Noise scale of the gradient at the base (median over seeds): %.0f rollouts; GRPO's batch has "
        "%zu.\n\n%s\n",
        100 * p.hopeless, 100 * p.learnable, 100 * p.always, 100 * p.wrong, p.noise_scale,
        methods[0].step_prompts * group_size, report::to_table(p, o.targets).c_str());
    if (kind == chain::pool_kind::realistic)
      std::printf("The always right ask for any two digits, the hopeless for a sum that has no two digits.\n");
    const std::string ends = report::at_grid_ends(p, o.learning_rates);
    if (!ends.empty())
      std::printf("Step sizes at an end of the grid, where a better one may lie beyond: %s\n", ends.c_str());
    std::fflush(stdout);
    report::draw(report::curves_script(p), folder.path() / ("accuracy_" + p.name + ".svg"));
  }
  rlvr::decoder::write_file(folder.path() / "report.json", report::to_json(r));
  rlvr::decoder::write_file(folder.path() / "curves.csv", report::to_csv(r));
  folder.commit();
}

/// Standard deviation of each prompt's pass rates over the epochs of a run with random prompts.
template <class Device>
std::vector<double> historical_deviation(const workshop<Device>& shop, const prompt_set& pool, std::size_t rollouts,
                                         std::uint64_t seed) {
  using namespace rlvr;
  constexpr std::size_t step_prompts = 8;
  auto policy = shop.policy();
  adamw optimizer(policy.space(), {.learning_rate = 3e-4, .weight_decay = 0});
  const std::size_t visits = rollouts / group_size / pool.prompts.size() + 1;
  dopr_selector<window_reward_tracker> selector(
      {window_reward_tracker(pool.prompts.size(), visits), visit_counter(pool.prompts.size())});
  dopr_options o{.steps = rollouts / (step_prompts * group_size),
                 .step_prompts = step_prompts,
                 .group_size = group_size,
                 .max_step_kl = step_kl,
                 .evaluate_every = 0,
                 .sampling = sampling,
                 .seed = seed};
  o.explore_steps = o.steps;
  (void)dopr(policy, pool, pool, selector, group_normalized{}, optimizer, o, ignore_dopr_steps{}, no_entropy{});
  std::vector<double> out;
  for (prompt_id id = 0; id < pool.prompts.size(); ++id) out.push_back(volatility{}(selector.tracker()[id].first));
  return out;
}

template <class Device>
void run_distinct(const workshop<Device>& shop, const options& o) {
  rlvr::decoder::staged_folder folder(o.out, {"report.json", "distinct.csv", "distinct.svg"});
  const std::size_t seeds = o.seeds + o.tuning_seeds, history = 8 * o.pool_size * group_size;
  const auto seed_of = [&](std::size_t s) { return s < o.seeds ? s + 1 : tuning_seed + s - o.seeds; };
  const prompt_set validation = shop.first(shop.validation, o.test_prompts),
                   test = shop.first(shop.test, o.test_prompts);

  std::vector<std::vector<chain::task_prompt>> tasks(seeds), ranked(seeds);
  in_parallel("history", seeds, o.threads, [&](std::size_t s) {
    tasks[s] = chain::make_pool({.kind = chain::pool_kind::balanced, .size = o.pool_size, .seed = seed_of(s)},
                                shop.train.prompts, shop.train.answers, shop.base_rates);
    const std::vector<double> scores = historical_deviation(shop, shop.set_of(tasks[s]), history, seed_of(s));
    std::vector<std::size_t> order(o.pool_size);
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    for (std::size_t i : order) ranked[s].push_back(tasks[s][i]);
  });

  struct cell {
    std::size_t prompts;
    bool by_history;
  };
  std::vector<cell> cells;
  const std::size_t growth = o.full ? 2 : 4;
  for (bool by_history : {false, true})
    for (std::size_t n = 1;; n = std::min(growth * n, o.pool_size)) {
      if (!by_history || n < o.pool_size) cells.push_back({n, by_history});
      if (n == o.pool_size) break;
    }
  const auto run = [&](const cell& c, std::size_t s, double rate, const prompt_set& held_out) {
    std::vector<chain::task_prompt> few = c.by_history ? ranked[s] : tasks[s];
    few.resize(c.prompts);
    return train(shop, methods[single], shop.set_of(few), few, held_out, o.rollouts, rate, seed_of(s));
  };
  const std::size_t rates = o.learning_rates.size(), tuning = rates * o.tuning_seeds;
  std::vector<run_result> tuned(cells.size() * tuning), runs(cells.size() * o.seeds);
  in_parallel("step sizes", tuned.size(), o.threads, [&](std::size_t i) {
    tuned[i] =
        run(cells[i / tuning], o.seeds + i % o.tuning_seeds, o.learning_rates[i % tuning / o.tuning_seeds], validation);
  });
  std::vector<double> best;
  for (std::size_t c = 0; c < cells.size(); ++c)
    best.push_back(best_rate(o.learning_rates, std::span<const run_result>(tuned).subspan(c * tuning, tuning)));
  in_parallel("runs", runs.size(), o.threads,
              [&](std::size_t i) { runs[i] = run(cells[i / o.seeds], i % o.seeds, best[i / o.seeds], test); });

  report::distinct_report r{.rollouts = o.rollouts,
                            .group_size = group_size,
                            .seeds = o.seeds,
                            .history_rollouts = history,
                            .base = {},
                            .points = {}};
  std::vector<double> base;
  for (std::size_t s = 0; s < o.seeds; ++s) base.push_back(runs[s].looks.front().accuracy);
  r.base = report::accuracy_interval(base);
  for (std::size_t c = 0; c < cells.size(); ++c) {
    std::vector<double> last;
    for (std::size_t s = 0; s < o.seeds; ++s) last.push_back(runs[c * o.seeds + s].looks.back().accuracy);
    r.points.push_back({cells[c].prompts, cells[c].by_history ? "historical variance" : "random", best[c],
                        report::accuracy_interval(last)});
  }
  std::printf("\nBase %.3f; %zu rollouts. The historical variance took %zu rollouts more.\n\n%s\n", r.base.mean,
              r.rollouts, r.history_rollouts, report::to_table(r).c_str());
  report::draw(report::distinct_script(r), folder.path() / "distinct.svg");
  rlvr::decoder::write_file(folder.path() / "report.json", report::to_json(r));
  rlvr::decoder::write_file(folder.path() / "distinct.csv", report::to_csv(r));
  folder.commit();
}

template <class Device>
void run(const Device& device, const options& o) {
  report::require_gnuplot();
  workshop<Device> shop{device,
                        rlvr::tokenizer::load_model(o.model),
                        rlvr::decoder::read_prompts(o.data / "chain_train.jsonl"),
                        rlvr::decoder::read_prompts(o.data / "chain_validation.jsonl"),
                        rlvr::decoder::read_prompts(o.data / "chain_test.jsonl"),
                        {}};
  {
    auto policy = shop.policy(o.threads);
    std::printf("%s: %zu parameters. Measuring its pass rates: %zu rollouts, not charged to any method\n",
                o.model.c_str(), policy.space().dimension(), shop.train.size() * group_size);
    std::fflush(stdout);
    shop.base_rates = pass_rates(policy, shop.first(shop.train, shop.train.size()), 0);
  }
  if (o.distinct)
    run_distinct(shop, o);
  else
    run_comparison(shop, o);
  std::printf("written to %s\n", o.out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  options o;
  CLI::App app{
      "Compares ways to choose prompts: GRPO, random prompts, volatility, bonus, DoPR, Thompson sampling and "
      "answer entropy, by the training rollouts they need to reach an accuracy."};
  app.option_defaults()->always_capture_default()->take_last();
  app.add_flag("--full", o.full,
               "Everything larger: 40,960 rollouts, 5 seeds, 2 tuning seeds, 6 step sizes, 2,048 test prompts");
  CLI::Option* const distinct =
      app.add_flag("--distinct-prompts", o.distinct,
                   "Accuracy against the number of distinct training prompts of the balanced pool, instead of the "
                   "comparison");
  app.add_option("--model", o.model, "Model folder");
  app.add_option("--pool", o.pool, "realistic, balanced, mislabelled or all")
      ->check(CLI::IsMember({"realistic", "balanced", "mislabelled", "all"}))
      ->excludes(distinct);
  app.add_option("--pool-size", o.pool_size, "Prompts in a pool, at least 64")->check(CLI::Range(64, 1024));
  app.add_option("--wrong", o.wrong, "Share of wrong labels in the mislabelled pool")
      ->check(CLI::Range(0.0, 1.0))
      ->excludes(distinct);
  CLI::Option* const rollouts =
      app.add_option("--rollouts", o.rollouts, "Training rollouts of a run")->check(positive_number());
  CLI::Option* const seeds = app.add_option("--seeds", o.seeds, "Runs of each method that are reported")
                                 ->check(CLI::Range(std::size_t{1}, std::size_t{tuning_seed} - 1));
  app.add_option("--device", o.device, devices::help)->check(CLI::IsMember(devices::names));
  app.add_option("--threads", o.threads, "Runs at a time; never changes a result")->check(positive_number());
  app.add_option("--out", o.out,
                 "Folder to write; an older result there is replaced [out/dopr, or out/distinct_prompts]");
  return run_program(app, argc, argv, [&] {
    if (o.out.empty()) o.out = o.distinct ? "out/distinct_prompts" : "out/dopr";
    if (o.full) {
      if (rollouts->count() == 0) o.rollouts = 40960;
      if (seeds->count() == 0) o.seeds = 5;
      o.tuning_seeds = 2;
      o.test_prompts = 2048;
      o.learning_rates = {5e-5, 1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3};
      o.targets = {0.6, 0.75, 0.85, 0.9};
    }
    rlvr::require(o.rollouts % look_every == 0, "--rollouts: ", o.rollouts, " is not a multiple of ", look_every);
    devices::with_device(o.device, [&](const auto& device) { run(device, o); });
  });
}

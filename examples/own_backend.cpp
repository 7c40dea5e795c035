// A backend of one's own: a bigram model over letters with a vector type of its own. It says what rlvr asks of a
// policy, tries itself against the laws, and is improved by one_shot.
#include <rlvr/laws/differentiable.hpp>
#include <rlvr/laws/sampler.hpp>
#include <rlvr/laws/vector_space.hpp>
#include <rlvr/rlvr.hpp>

#include <cstdio>

using namespace rlvr;

constexpr std::size_t letters = 8, end = letters, V = letters + 1;  // a to h, and the end of the text

// The vectors. Nothing is asked of them but that they can be moved, so they may be a handle to memory on a device.
struct table {
  std::array<double, letters * V> w{};  // w[p * V + n]: the logit of n behind the letter p; the end has no row
};

// The vector space: all that rlvr ever does to parameters and gradients. A model of rlvr::vector_space.
struct table_space {
  using vector = table;
  std::size_t dimension() const { return letters * V; }
  table zero() const { return {}; }                       // a new vector of zeros
  void assign(table& y, const table& x) const { y = x; }  // y <- x
  void scale(double a, table& y) const {                  // y <- a y
    for (double& v : y.w) v *= a;
  }
  void axpy(double a, const table& x, table& y) const {   // y <- y + a x
    for (std::size_t i = 0; i < x.w.size(); ++i) y.w[i] += a * x.w[i];
  }
  double dot(const table& x, const table& y) const {  // in double or better
    double sum = 0;
    for (std::size_t i = 0; i < x.w.size(); ++i) sum += x.w[i] * y.w[i];
    return sum;
  }
};

class bigram {
 public:
  // rlvr::parameterised: where the parameters live, what they are, and two ways to replace them.
  table_space space() const { return {}; }
  const table& parameters() const { return theta_; }
  void assign(const table& theta) { theta_ = theta; }
  void assign(const table& theta, double alpha, const table& d) {  // never on theta_ itself, says the contract
    for (std::size_t i = 0; i < d.w.size(); ++i) theta_.w[i] = theta.w[i] + alpha * d.w[i];
  }

  // rlvr::sampler: the rollouts asked for, request by request.
  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) const {
    require(options.max_tokens > 0, "bigram: max_tokens is 0");  // errors name argument and value
    rollouts out;
    for (const auto& [prompt, count, first] : requests)
      for (std::uint32_t r = first; r < first + count; ++r) {  // first lets a request be cut in parts
        std::size_t last = last_letter(prompts, prompt);
        for (std::uint32_t t = 0; t < options.max_tokens && last != end; ++t) {
          const distribution next = behind(last, options.temperature);
          double left = key.uniform(prompt, r, t);  // the draw depends on prompt, rollout and position alone,
          last = 0;
          while (last < end && left >= next.p[last]) left -= next.p[last++];  // and is put through the inverse CDF
          out.tokens.push_back(static_cast<token>(last));
          out.log_probs.push_back(std::log(next.p[last]));  // of the distribution sampled from
          out.entropies.push_back(next.entropy);
        }
        out.offsets.push_back(out.tokens.size());  // this rollout ends here
        out.prompts.push_back(prompt);
        out.finished.push_back(last == end);
      }
    return out;
  }

  // rlvr::scorer: what the same tokens are worth to the present parameters, whoever sampled them.
  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    token_scores out;
    for_each_token(prompts, r, [&](std::size_t, std::size_t last, std::size_t token) {
      const distribution next = behind(last, temperature);
      out.log_probs.push_back(std::log(next.p[token]));
      out.entropies.push_back(next.entropy);
    });
    return out;
  }

  // rlvr::differentiable: g += sum_t c_t grad log pi(y_t | y_<t). It adds, it sums, and a bad argument changes nothing.
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> c, double temperature,
                        table& g) const {
    require(c.size() == r.tokens.size(), "bigram: ", c.size(), " coefficients for ", r.tokens.size(), " tokens");
    for (std::size_t t = 0; t < c.size(); ++t) require(std::isfinite(c[t]), "bigram: coefficient ", t, " is ", c[t]);
    for_each_token(prompts, r, [](auto...) {});  // throws for bad rollouts, before g changes
    for_each_token(prompts, r, [&](std::size_t t, std::size_t last, std::size_t token) {
      if (c[t] == 0) return;  // zero coefficients contribute exactly nothing
      const distribution next = behind(last, temperature);
      for (std::size_t n = 0; n < V; ++n)  // grad log softmax: one-hot minus probabilities, over the temperature
        g.w[last * V + n] += c[t] * ((n == token) - next.p[n]) / temperature;
    });
  }

 private:
  struct distribution {
    std::array<double, V> p;
    double entropy;
  };
  distribution behind(std::size_t last, double temperature) const {  // softmax of a row
    require(temperature > 0 && std::isfinite(temperature), "bigram: temperature is ", temperature);
    distribution out{};
    double sum = 0;
    for (std::size_t n = 0; n < V; ++n) sum += out.p[n] = std::exp(theta_.w[last * V + n] / temperature);
    for (double& p : out.p) out.entropy -= (p /= sum) > 0 ? p * std::log(p) : 0;
    return out;
  }
  static std::size_t letter(token t, std::size_t limit) {
    require(t >= 0 && static_cast<std::size_t>(t) < limit, "bigram: token ", t, " is outside the vocabulary");
    return static_cast<std::size_t>(t);
  }
  static std::size_t last_letter(const ragged<token>& prompts, std::size_t i) {
    require(i < prompts.size() && !prompts[i].empty(), "bigram: prompt ", i, " is empty or not there");
    return letter(prompts[i].back(), letters);
  }
  template <class F>  // f(t, the letter before, the token) for every token of every rollout
  static void for_each_token(const ragged<token>& prompts, const rollouts& r, F f) {
    for (std::size_t i = 0; i < r.size(); ++i)
      for (std::size_t t = r.offsets[i], last = last_letter(prompts, r.prompts[i]); t < r.offsets[i + 1]; ++t) {
        f(t, letter(static_cast<token>(last), letters), letter(r.tokens[t], V));
        last = letter(r.tokens[t], V);
      }
  }

  table theta_;
};

static_assert(policy<bigram>);  // has every operation, with the right types ...

int main() {
  bigram policy;
  ragged<token> prompts;
  for (token t = 0; t < static_cast<token>(letters); ++t) prompts.push_back(std::array{t});

  // ... and the laws try what types cannot say. Each returns the sentences of the laws it saw broken.
  const auto requests = requests_for(prompts, 8);
  const sampling_options sampling{.temperature = 0.8, .max_tokens = 6};
  const rollouts some = policy.sample(prompts, requests, sampling, random_key(1));
  const auto fill = laws::score_fill(policy, prompts, some);  // test vectors out of the policy's own gradients
  std::size_t broken = 0;
  const auto report = [&](const char* suite, const laws::violations& violations) {
    std::printf("%-14s %s\n", suite, violations.empty() ? "keeps its laws" : "breaks these laws:");
    for (const std::string& law : violations) std::printf("  %s\n", law.c_str());
    broken += violations.size();
  };
  report("vector_space", laws::vector_space_laws(policy.space(), fill));
  report("parameterised", laws::parameterised_laws(policy, fill));
  report("sampler", laws::sampler_laws(policy, prompts, requests, sampling, random_key(2)));
  report("scorer", laws::scorer_laws(policy, prompts, some, sampling.temperature));
  report("differentiable", laws::differentiable_laws(policy, prompts, some, sampling.temperature));

  // Every algorithm now accepts it. A completion is right when it begins with the next letter of the alphabet.
  const prompt_set task{prompts, [](std::size_t prompt, std::span<const token> completion) {
                          return verdict{completion[0] == static_cast<int>((prompt + 1) % letters) ? 1.0 : 0.0};
                        }};
  const auto result =
      one_shot(policy, task, task, task, centred{},
               {.rollouts = letters * 64, .group_size = 64, .evaluation_group = 64, .sampling = {.max_tokens = 6}});
  std::printf("one_shot       %s at alpha = %.0f", to_string(result.status).data(), result.alpha);
  if (result.confirmation)
    std::printf(": accuracy %.2f -> %.2f", result.confirmation->base.mean, result.confirmation->moved.mean);
  std::printf("\n");
  return broken == 0 ? 0 : 1;
}

// A backend of one's own: a bigram model over eight letters. It says what rlvr asks of a policy, tries itself against
// the laws, and is improved by one_shot.
#include <rlvr/laws/policy.hpp>
#include <rlvr/rlvr.hpp>

#include <cstdio>
#include <numeric>

using namespace rlvr;
using vector = std::vector<double>;  // all that is asked of vectors is that they move; a handle to GPU memory will do
constexpr std::size_t V = 8;         // theta[i * V + n] is the logit of letter n behind letter i

struct logit_space {  // models rlvr::vector_space: all that rlvr ever does to parameters and gradients
  using vector = ::vector;
  std::size_t dimension() const { return V * V; }
  vector zero() const { return vector(V * V, 0.0); }        // a new vector of zeros
  void assign(vector& y, const vector& x) const { y = x; }  // y <- x
  void scale(double a, vector& y) const {                   // y <- a y
    for (double& v : y) v *= a;
  }
  void axpy(double a, const vector& x, vector& y) const {  // y <- y + a x
    for (std::size_t i = 0; i < V * V; ++i) y[i] += a * x[i];
  }
  double dot(const vector& x, const vector& y) const {  // accumulated in double or better
    return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
  }
};

class bigram {
 public:
  // rlvr::parameterised: where the parameters live, what they are, and two ways to replace them.
  logit_space space() const { return {}; }
  const vector& parameters() const { return theta_; }
  void assign(const vector& theta) { theta_ = theta; }
  void assign(const vector& theta, double alpha, const vector& direction) {  // one pass, where the backend can
    assign(theta);
    space().axpy(alpha, direction, theta_);
  }

  // rlvr::sampler: the rollouts asked for, request by request.
  rollouts sample(const ragged<token>& prompts, std::span<const sample_request> requests,
                  const sampling_options& options, random_key key) const {
    require(options.max_tokens > 0, "bigram: max_tokens is 0");  // errors name the argument and its value
    rollouts out;
    for (const auto& [prompt, count, first] : requests)
      for (std::uint32_t r = first; r < first + count; ++r) {  // a request may be the continuation of another
        token letter = last_letter(prompts, prompt);
        for (std::uint32_t t = 0; t < options.max_tokens; ++t) {
          const distribution next = behind(letter, options.temperature);
          double left = key.uniform(prompt, r, t);  // a draw depends on these three and on nothing else
          for (letter = 0; letter + 1 < static_cast<token>(V) && left >= next.p[letter]; ++letter)
            left -= next.p[letter];
          out.tokens.push_back(letter);
          out.log_probs.push_back(std::log(next.p[letter]));  // of the distribution drawn from
          out.entropies.push_back(next.entropy);
        }
        out.offsets.push_back(out.tokens.size());  // the rollout ends here,
        out.prompts.push_back(prompt);
        out.finished.push_back(0);  // cut at max_tokens: this model has no end of sequence
      }
    return out;
  }

  // rlvr::scorer: what tokens are worth to the present parameters, whoever drew them.
  token_scores score(const ragged<token>& prompts, const rollouts& r, double temperature) const {
    token_scores out;
    for_each_token(prompts, r, temperature, [&](std::size_t t, std::size_t, const distribution& next) {
      out.log_probs.push_back(std::log(next.p[index(r.tokens[t])]));
      out.entropies.push_back(next.entropy);
    });
    return out;
  }

  // rlvr::differentiable: g += sum_t c_t grad log pi(y_t | y_<t). It adds, it sums, and a bad argument changes nothing.
  void accumulate_score(const ragged<token>& prompts, const rollouts& r, std::span<const double> c, double temperature,
                        vector& g) const {
    require(c.size() == r.tokens.size(), "bigram: ", c.size(), " coefficients for ", r.tokens.size(), " tokens");
    for (std::size_t t = 0; t < c.size(); ++t) require(is_finite(c[t]), "bigram: coefficient ", t, " is ", c[t]);
    (void)score(prompts, r, temperature);  // throws for bad rollouts, before g changes
    for_each_token(prompts, r, temperature, [&](std::size_t t, std::size_t row, const distribution& next) {
      for (std::size_t n = 0; n < V; ++n) g[row + n] -= c[t] * next.p[n] / temperature;  // the gradient of a softmax:
      g[row + r.tokens[t]] += c[t] / temperature;                                        // one-hot minus probabilities
    });
  }

 private:
  struct distribution {
    std::array<double, V> p{};
    double entropy = 0;
  };
  static std::size_t index(token letter) {
    require(letter >= 0 && letter < static_cast<token>(V), "bigram: token ", letter, " is outside the vocabulary");
    return static_cast<std::size_t>(letter);
  }
  static token last_letter(const ragged<token>& prompts, std::size_t prompt) {
    require(prompt < prompts.size() && !prompts[prompt].empty(), "bigram: no prompt ", prompt, ", or it is empty");
    return prompts[prompt].back();
  }
  distribution behind(token letter, double temperature) const {  // softmax of a row
    require(temperature > 0 && is_finite(temperature), "bigram: temperature is ", temperature);
    distribution out;
    double sum = 0;
    for (std::size_t n = 0; n < V; ++n) sum += out.p[n] = std::exp(theta_[index(letter) * V + n] / temperature);
    for (double& p : out.p) out.entropy -= (p /= sum) > 0 ? p * std::log(p) : 0;
    return out;
  }
  template <class F>  // f(t, where the row of the letter before begins, the distribution that token t is from)
  void for_each_token(const ragged<token>& prompts, const rollouts& r, double temperature, F f) const {
    for (std::size_t i = 0; i < r.size(); ++i)
      for (std::size_t t = r.offsets[i]; t < r.offsets[i + 1]; ++t) {
        const token before = t == r.offsets[i] ? last_letter(prompts, r.prompts[i]) : r.tokens[t - 1];
        f(t, index(before) * V, behind(before, temperature));
      }
  }

  vector theta_ = space().zero();
};

static_assert(policy<bigram>);  // it has every operation, with the right types ...

int main() {
  bigram policy;
  ragged<token> prompts;
  for (token t = 0; t < static_cast<token>(V); ++t) prompts.push_back(std::array{t});

  // ... and the laws try what types cannot say, at parameters that are not all alike: a sentence for each law that was
  // seen broken.
  vector theta(V * V);
  for (std::size_t i = 0; i < theta.size(); ++i) theta[i] = random_key(3).uniform(i);
  policy.assign(theta);
  const auto requests = requests_for(prompts, 64);
  const sampling_options sampling{.temperature = 0.8, .max_tokens = 5};
  const auto fill = [](vector& v, std::size_t index) {  // test vectors: random numbers, others for each index
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = random_key(index).uniform(i) - 0.5;
  };
  const laws::violations broken = laws::policy_laws(policy, fill, prompts, requests, sampling, random_key(2));
  for (const std::string& law : broken) std::puts(law.c_str());
  std::puts(broken.empty() ? "The backend keeps all laws." : "The backend breaks these laws.");

  // Every algorithm now accepts it. A completion is right when it begins with the next letter of the alphabet.
  const prompt_set task{prompts, [](std::size_t prompt, std::span<const token> completion) {
                          return verdict{completion[0] == static_cast<token>((prompt + 1) % V) ? 1.0 : 0.0};
                        }};
  const auto result =
      one_shot(policy, task, task, task, centred{},
               {.rollouts = V * 64, .group_size = 64, .evaluation_group = 64, .sampling = {.max_tokens = 5}});
  for (const auto& [point, accuracy, collapsed] : result.landscape)
    if (point.alpha == 0 || point.alpha == result.alpha)
      std::printf("accuracy %.2f at alpha = %.0f\n", accuracy.mean, point.alpha);
  std::printf("one_shot: %s\n", to_string(result.status).data());
  return broken.empty() ? 0 : 1;
}

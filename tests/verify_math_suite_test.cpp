/// math_verifier and math_equal on the kinds of cases that the test suites of Math-Verify and lighteval hold.

#include <chrono>
#include <string>
#include <vector>

#include <rlvr/verify/math.hpp>

#include "catch.hpp"

using namespace rlvr;
using detail::comparison;

namespace {

struct graded {
  const char* answer;
  const char* completion;
};

void all_right(const std::vector<graded>& cases) {
  for (const graded& c : cases) {
    INFO(c.answer << "   " << c.completion);
    const verdict v = math_verifier{}(c.completion, c.answer);
    CHECK(v.scored);
    CHECK(v.reward == 1);
  }
}

void all_wrong(const std::vector<graded>& cases) {
  for (const graded& c : cases) {
    INFO(c.answer << "   " << c.completion);
    const verdict v = math_verifier{}(c.completion, c.answer);
    CHECK(v.scored);
    CHECK(v.reward == 0);
  }
}

void all_are(comparison expected, const std::vector<graded>& cases) {
  for (const graded& c : cases) {
    INFO(c.answer << "   " << c.completion);
    CHECK(static_cast<int>(math_equal(c.answer, c.completion)) == static_cast<int>(expected));
    CHECK(static_cast<int>(math_equal(c.completion, c.answer)) == static_cast<int>(expected));
  }
}

}  // namespace

TEST_CASE("math suite: a number anywhere", "[verify][math]") {
  all_right({{"-17", "-17"},
             {"3250000", "3,250,000"},
             {"3250000", "3 250 000"},
             {"4200.5", "4 200.5"},
             {"812.75", "812,75"},
             {"3,5", "3.5"},
             {"0,125", "0.125"},
             {"0.6", ".6"},
             {"2048.10", "$2,048.10"},
             {"2048.10", "2,048.10$"},
             {"2048.10", "it was 7 at first and is 2,048.10\xe2\x82\xac"},
             {"2048.10", "first 7, then 2,048.10m\xc2\xb2"},
             {"9.4", "Il paie 9,4 $ en tout"},
             {"7/12", "so we are left with 7/12 of it"},
             {"-7/12", "-\\frac{7}{12}"},
             {"61", "in the end there are 61 \xe4\xb8\xaa"},
             {"0", "that leaves 0"}});
  all_wrong({{"5", "XK5B"}, {"5", "x_5"}, {"5", "2^5"}, {"5", "there is none"}, {"24", "2-4"}, {"32349", "32, 349"}});
}

TEST_CASE("math suite: notations of formulas", "[verify][math]") {
  all_right({{"$12$", "It is \\[ 12 \\]"},
             {"$12$", "It is $ 12 $"},
             {"$12$", "It is $$ 12 $$"},
             {"$12$", "It is $$\n12\n$$"},
             {"$12$", "It is \\( (7+5) \\)"},
             {"$7/3$", "It costs $ \\$4 = \\frac{7}{3} $"},
             {"$2/5$", "$\\frac25$"},
             {"$1$", "$\\frac4{4}$"},
             {"$\\sqrt{7}$", "$\\sqrt7$"},
             {"$2/5$", "$\\cfrac{2}{5}$"},
             {"$2/5$", "$\\boxed{\\dfrac{2}{5}}$"},
             {"$2/5$", "$\\frac{2}{5} \\text{liters}$"},
             {"$2/5$", "$\\frac{2}{5} \\textbf{liters}$"},
             {"$2/5$", "$r = \\frac{2}{5}$"},
             {"$70$ miles", "so \\boxed{70\\textnormal{ miles}}"},
             {"14916", "so it is $14 {, }916$"},
             {"1 - \\frac{1}{e}", "$1-\\frac{1}{\\mathrm{e}}$"},
             {"\\sin x", "$\\operatorname{sin} x$"},
             {"$\\frac{2}{7}$", "$\\frac{2}{7}.$"},
             {"$\\frac{2}{7}$", "\\[\\frac{2}{7} ,\\]"},
             {"$(4,5)$", "$(4,5).$"}});
  all_wrong({{"$5$", "$5^{10}.$"}, {"$2$", "It is $2/7.$"}, {"$1, 2, 3$", "$1, 2, 3, ...$"}});
}

TEST_CASE("math suite: percent", "[verify][math]") {
  all_right({{"$35\\%$", "35 percent"},
             {"$35\\%$", "35 pct"},
             {"$35\\%$", "35 %"},
             {"$35\\%$", "$35$ percent"},
             {"$35\\%$", "\\boxed{35} pct"},
             {"$35\\%$", "\\boxed{35 percentage}"},
             {"$35\\%$", "it grows by 35%."},
             {"$35\\%$", "35"},
             {"$0.35$", "35%"}});
  all_wrong({{"$0.35$", "35"}, {"$35/100$", "35"}, {"$35$", "35/100"}, {"$\\frac{35}{100}$", "35"}});
}

TEST_CASE("math suite: the sentence that gives the answer", "[verify][math]") {
  all_right({{"14", "Final Answer: The final answer is $14$. I hope it is correct."},
             {"$\\frac{3\\sqrt{5}}{4}$", "The final answer is $\\frac{3\\sqrt{5}}{4}$. I hope it is correct."},
             {"12000023", "The final answer is 12,000,023. I hope it is correct."},
             {"120", "Answer: The volume of $ABCD$ is 120. I hope it is correct."},
             {"7", "Final Answer: Ann started 7 hours ago."},
             {"(-6,10)", "The final answer is \\((-6, 10)\\). I hope so."},
             {"x=3", "$y=4$. The answer is $x=3$, because $y=4$."},
             {"3.5", "The answer is 3.5. There were 8 at first."},
             {"5", "the answer is: **5**"},
             {"\\boxed{5}", "answer is 5"},
             {"A long solution. The final answer is $28\\%$. I hope it is correct.", "\\boxed{28\\%}"},
             {"8", "There are $n=3$ groups. Therefore 8 children can play."},
             {"$12 \\text{ and } 13$", "The answer is \"$12$ and $13$\"."}});
  all_wrong({{"3", "The answer is $4$. Not 3."}, {"4", "\\boxed{3} The answer is 4."}});
}

TEST_CASE("math suite: several boxes", "[verify][math]") {
  all_right({{"$1,2$", "\\boxed{1} and \\boxed{2}"},
             {"$\\{1,2,3\\}$", "\\boxed{1}, \\boxed{2}, \\boxed{3}"},
             {"\\boxed{3} apples and \\boxed{4} pears", "$\\boxed{4,3}$"},
             {"\\(\\boxed{8}\\) and \\(\\boxed{-3}\\).", "\\boxed{-3,8}"},
             {"$(2,2),(6,2)$", "\\boxed{(2, 2)} \\quad \\text{and} \\quad \\boxed{(6, 2)}"},
             {"$k=45,n=2$", "\\boxed{k = 45} \\quad \\text{and} \\quad \\boxed{n = 2}"},
             {"$2,3$", "\\boxed{1} and then, after more words, \\boxed{2} and \\boxed{3}"},
             {"7", "\\boxed{7}. So \\boxed{7}"},
             {"7", "First \\boxed{5} appears, but this was too early. At last: \\boxed{7}"}});
  all_wrong({{"7", "\\boxed{5}, \\boxed{7}"}, {"5", "\\boxed{5}, \\boxed{7}"}, {"7", "\\boxed{7"}});
  std::string many;
  for (int i = 0; i < 40; ++i) many += "\\boxed{" + std::to_string(i) + "}";
  CHECK(math_answer(many, math_source::boxed)->substr(0, 6) == "16,17,");  // the last 24
}

TEST_CASE("math suite: relations", "[verify][math]") {
  all_right({{"$x >= 5$", "so $x \\geq 5$"},
             {"$x < 3$", "so $x \\lt 3$"},
             {"$x != 3$", "so $x \\neq 3$"},
             {"$x \\ne 3$", "$3 \\ne x$"},
             {"$x \\leq 5$", "$5 \\geq x$"},
             {"$x < 1$", "$-x > -1$"},
             {"$2x + 6 \\ge 0$", "$x \\ge -3$"},
             {"$x = 11$", "$x = 5+5+1 = 11$"},
             {"$x = 1/3$", "$x = 2/6 = 1/3 \\approx 0.33$"},
             {"$11$", "$x\\approx11$"},
             {"$2x+4y-3=0$", "$y=-\\frac{1}{2}x+\\frac{3}{4}$"},
             {"$x^2/4 + y^2/3 = 1$", "$x^2/16 + y^2/12 = 1/4$"},
             {"$|AB|=3$", "3"},
             {"$AB=4,CD=5$", "\\boxed{4, 5}"},
             {"$\\frac{NO}{BO}=\\frac{1}{\\sqrt{6}}$", "$\\frac{1}{\\sqrt{6}}$"},
             {"$V_{1}:V_{2}=11:21$", "$11:21$"},
             {"$S_{ABC}:S=7:32$", "\\boxed{7:32}"},
             {"$12:30$", "$12:30$"},
             {"$(p,q)=(3,2)$", "$(3,2)$"},
             {"$(5, 8), (8, 5)$", "\\boxed{(x, y) = (5, 8) \\text{ and } (8, 5)}"},
             {"$p=5,q=2;p=7,q=2$", "$(5,2),(7,2)$"},
             {"$a=4,\\,-8$", "\\boxed{-8, 4}"}});
  all_wrong({{"$x > 5$", "$x < 5$"},
             {"$x < 1$", "$-x < -1$"},
             {"$x < 1$", "$x \\le 1$"},
             {"$x \\ne 3$", "$x = 3$"},
             {"$7 = 11a+c$", "$11a+c$"},
             {"$2x + z = 1$", "$1$"},
             {"$a + 3z = 0$", "$0$"},
             {"$12:30$", "$1:30$"},
             {"$(p,q)=(3,2)$", "$(2,3)$"}});
}

TEST_CASE("math suite: sets, intervals and lists", "[verify][math]") {
  all_right({{"$[0,4)$", "$[0,4)$"},
             {"$(1,+\\infty)$", "$(1,\\infty)$"},
             {"$-3 \\le x \\le 8$", "$x \\in [-3,8]$"},
             {"$-5 < a < 10$", "$(-5, 10)$"},
             {"$0<f(x)<1$", "$(0,1)$"},
             {"$1\\leq|z|\\leq \\frac{3}{2}$",
              "$z \\in \\left[-\\frac{3}{2}, -1\\right] \\cup \\left[1, \\frac{3}{2}\\right]$"},
             {"$|x| < 3$", "$(-3,3)$"},
             {"$|x| \\ge 3$", "$(-\\infty,-3] \\cup [3,\\infty)$"},
             {"$x < -1$ or $x > 2$", "$(-\\infty,-1) \\cup (2,\\infty)$"},
             {"$\\{-1\\} \\cup [0,7)$", "$x \\in \\boxed{[0,7) \\cup \\{-1\\}}$"},
             {"$(1,3)$", "${1,3}$"},
             {"$\\pm 7$", "${-7, 7}$"},
             {"$\\{1\\pm\\sqrt{5},-2\\}$", "$-2, 1+\\sqrt5, 1-\\sqrt5$"},
             {"$x = \\frac{1}{2}, x = \\frac{-1 \\pm \\sqrt{13}}{4}$",
              "$\\frac{\\sqrt{13}-1}{4}, \\frac12, \\frac{-1-\\sqrt{13}}{4}$"},
             {"$-3;-2;-1$", "$\\boxed{\\{-3, -2, -1\\}}$"},
             {"$(0;0),(4;-2)$", "\\boxed{(4, -2), (0, 0)}"},
             {"$(11,7)or(7,11)$", "$\\boxed{(7,11),\\ (11,7)}$"},
             {"$1$ and $2$ and $3$", "\\boxed{3,2,1}"},
             {"$19, 46, and 82$", "$19, 46, \\text{ and } 82$"},
             {"$(3,2),(5,7)$", "$(5,7),(3,2),(5,7)$"},
             {"$\\{1,1,2\\}$", "$\\{1,2,2\\}$"}});
  all_wrong({{"$[0,9)$", "$[0,1)$"},
             {"$(0,9)$", "$[0,9)$"},
             {"$(3,1)$", "${1,3}$"},
             {"$\\pm 7$", "$7$"},
             {"$|x| < 3$", "$(0,3)$"},
             {"$1,2,3$", "$1,2$"},
             {"$1,2$", "$1,2,3$"},
             {"$(0,1)$", "$(0, 1.5)$"}});
}

TEST_CASE("math suite: matrices, sums, words", "[verify][math]") {
  all_right({{"$\\begin{pmatrix}1 & 2 \\\\3 & 4\\end{pmatrix}$",
              "$\\left[\\begin{array}{cc}1 & 2 \\\\3 & 4\\end{array}\\right]$"},
             {"$(\\begin{pmatrix}\\frac{1}{4}\\\\ \\frac{1}{5} \\end{pmatrix})$",
              "$\\begin{bmatrix}0.25\\\\0.2 \\end{bmatrix}$"},
             {"$\\begin{pmatrix}1 & 2\\end{pmatrix}$", "$\\begin{pmatrix}1 & 2\\\\\\end{pmatrix}$"},
             {"$\\frac{1}{3\\sqrt[3]{x}^2}$", "$\\frac{1}{3x^{2/3}}$"},
             {"55", "$\\sum_{k=1}^{10} k$"},
             {"$\\sum_{i=0}^{3} x^i$", "$1+x+x^2+x^3$"},
             {"120", "$\\prod_{k=1}^5 k$"},
             {"$\\text{odd}$", "$odd$"},
             {"$\\text{E}$", "\\boxed{\\text{(E)}}"},
             {"$\\text{Evelyn}$", "So it was $\\boxed{\\text{Evelyn}}$."},
             {"$$\\text{They meet at the centre}$$", "$$\\text{They meet at the centre}$$"}});
  all_wrong({{"$\\begin{pmatrix}1 & 2 \\\\ 3 & 4\\end{pmatrix}$", "$\\begin{pmatrix}1 & 2 \\\\ 3 & 5\\end{pmatrix}$"},
             {"55", "$\\sum_{k=1}^{9} k$"},
             {"$d$", "$\\text{E}$"}});
}

TEST_CASE("math suite: what stays undecided, and so counts as wrong", "[verify][math]") {
  all_are(comparison::undecided,
          {{"\\begin{pmatrix}6\\end{pmatrix}", "\\begin{pmatrix}1\\end{pmatrix} + \\begin{pmatrix}5\\end{pmatrix}"},
           {"\\sum_{k=1}^{n} k", "\\frac{n(n+1)}{2}"},
           {"\\sum_{k=1}^{\\infty} 2^{-k}", "1"},
           {"\\sum_{k=0}^{3} a_k", "a_0+a_1+a_2+a_3"},
           {"\\sum_{k=1}^{9} \\sum_{j=1}^{k} j", "165"},
           {"\\sum_{k=1}^{9999} k", "49995000"},
           {"\\int_0^1 x^2 dx", "\\frac13"},
           {"\\lim_{n\\to\\infty} \\frac1n", "0"},
           {"\\begin{cases} x & x > 0 \\\\ -x & x \\le 0 \\end{cases}", "|x|"},
           {"x^2 < 4", "-2 < x < 2"}});
  all_wrong({{"$x^2 = 4$", "$x = \\pm 2$"}});  // equations are not solved
  CHECK(math_verifier{}("\\boxed{\\int_0^1 x^2 dx}", "1/3").reward == 0);
}

TEST_CASE("math_answer: where each source looks", "[verify][math]") {
  using enum math_source;
  CHECK(!math_answer("the answer is 5", boxed));
  CHECK(math_answer("the answer is 5", anchored) == "5");
  CHECK(math_answer("it is $5$", anchored) == "5");
  CHECK(!math_answer("it is 5", anchored));
  CHECK(math_answer("it is 5", anywhere) == "5");
  CHECK(math_answer("it is 5", whole) == "it is 5");
  CHECK(math_answer("\\boxed{6} the answer is 5", whole) == "6");
  CHECK(math_answer("so $1+2=3$", anywhere) == "3");
  CHECK(math_answer("so $2\\$ = \\frac{5}{2}$", anywhere) == "\\frac{5}{2}");
  CHECK(math_answer("so $1=3$", anywhere) == math_answer("so 1=3", anywhere));
  CHECK(math_answer("so $x=3$", anywhere) == "x=3");
  CHECK(math_answer("so $1=3$", anchored) == "1=3");
  CHECK(math_answer("1=3", anywhere) == "1=3");
  CHECK(math_answer("Evelyn", anywhere) == "Evelyn");
  CHECK(!math_answer("no\nanswer", anywhere).has_value());
  CHECK(math_answer("", anywhere) == "");
}

TEST_CASE("math_equal: integers of any size up to 4,000 digits", "[verify][math]") {
  const std::string big(3900, '7');
  CHECK(math_equal(big, "0" + big) == comparison::equal);
  CHECK(math_equal("-" + big, "-0" + big) == comparison::equal);
  CHECK(math_equal(big, big.substr(1) + "8") == comparison::different);
  CHECK(math_equal(big, "-" + big) == comparison::different);
  CHECK(math_equal("-0", "0") == comparison::equal);
}

TEST_CASE("math_equal stays fast on lists of lists", "[verify][math]") {
  const auto list = [](int last) {
    std::string out;
    for (int i = 0; i < 24; ++i) {
      out += i == 0 ? "\\{" : ",\\{";
      for (int j = 0; j < 24; ++j) out += (j == 0 ? "" : ",") + std::to_string((i + j) % 10);
      out += "," + std::to_string(last) + "\\}";
    }
    return out;
  };
  for (const auto& [a, b] :
       {std::pair{list(3), list(17)}, std::pair{"\\{" + list(3) + "\\}", "\\{" + list(17) + "\\}"}}) {
    const auto begin = std::chrono::steady_clock::now();
    CHECK(math_equal(a, b) != comparison::equal);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(2));
  }
}

TEST_CASE("math suite: what looks alike is not equal", "[verify][math]") {
  // A blank between digits: a mixed number, or several.
  all_wrong({{"12/3", "\\boxed{1 2/3}"}, {"31/2", "\\boxed{3 1/2}"}, {"123", "\\boxed{1 2 3}"}});
  all_right({{"7/2", "\\boxed{3 1/2}"}, {"(1000,2)", "\\boxed{(1\\,000, 2)}"}, {"1200000", "\\boxed{1 200 000}"}});
  // Signs and points in \text{} and in phrases.
  all_wrong({{"5", "\\boxed{\\text{-5}}"},
             {"5", "\\boxed{\\mathbf{-5}}"},
             {"12", "\\boxed{\\text{1/2}}"},
             {"15", "\\boxed{\\text{1.5}}"},
             {"x", "\\boxed{\\text{-x}}"},
             {"x-1", "\\boxed{\\text{x+1}}"},
             {"5 apples", "\\boxed{-5 apples}"},
             {"55 apples", "\\boxed{5.5 apples}"},
             {"12 apples", "\\boxed{1/2 apples}"}});
  all_right({{"-5", "\\boxed{\\textbf{-5}}"},
             {"3/2", "\\boxed{\\text{1.5}}"},
             {"C", "\\boxed{\\text{(C).}}"},
             {"Odd", "\\boxed{\\text{odd}}"},
             {"covid 19", "\\boxed{COVID-19}"},
             {"5 apples", "\\boxed{5 apples.}"}});
  // An approximation without its value is the answer.
  all_wrong({{"\\approx 5", "\\boxed{\\approx 7}"}, {"\\approx 5", "\\boxed{}"}});
  all_right({{"5", "\\boxed{\\approx 5}"}, {"\\approx 5", "\\boxed{5}"}});
  // A second box behind a sentence is a correction.
  all_right({{"6", "\\boxed{5}. Wait, it's \\boxed{6}"}, {"5,6", "\\boxed{5}, or \\boxed{6}."}});
  // Words that are no unit.
  all_wrong({{"5", "\\boxed{5 \\text{ million}}"}, {"5", "\\boxed{5 \\text{ and a half}}"}});
  all_right({{"5", "\\boxed{5 \\text{ apples}}"}});
}

#pragma once
/// A progress bar on a terminal; plain lines, about ten a stage, where there is none.

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <unistd.h>

namespace report {

enum class display { terminal, lines };

/// What stderr is.
inline display display_of_stderr() { return isatty(STDERR_FILENO) ? display::terminal : display::lines; }

/// Shows how far a stage is: name, done of total, elapsed time and an estimate of what is left. A stage begins with
/// the first update of its name and ends when done reaches total, or with finish() or another stage. Not for use by
/// several threads at once.
class progress {
 public:
  using clock = std::chrono::steady_clock;

  /// `write` gets the text to show; stderr unless asked otherwise. `now` is the clock.
  explicit progress(display how = display_of_stderr(), std::function<void(std::string_view)> write = to_stderr,
                    std::function<clock::time_point()> now = clock::now)
      : how_(how), write_(std::move(write)), now_(std::move(now)) {}
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  ~progress() { finish(); }

  void update(std::string_view stage, std::size_t done, std::size_t total) {
    if (stage != stage_ || (finished_ && done < total)) {
      finish();
      stage_ = stage;
      start_ = now_();
      shown_tenth_ = 0;
      finished_ = false;
    }
    if (finished_) return;
    const clock::time_point time = now_();
    const std::size_t tenth = total > 0 ? 10 * done / total : 10;
    const bool end = done >= total;
    if (how_ == display::terminal) {
      if (!end && drawn_ && time - last_ < std::chrono::milliseconds(50)) return;
      write_("\r" + line(done, total, time) + "\x1b[K");
      drawn_ = true;
    } else {
      if (!end && tenth == shown_tenth_) return;
      write_(line(done, total, time) + "\n");
      shown_tenth_ = tenth;
    }
    last_ = time;
    finished_ = end;
    if (end && how_ == display::terminal) {
      write_("\n");
      drawn_ = false;
    }
  }

  /// Ends the line that stands on the terminal, so that other output begins on a fresh one.
  void finish() {
    if (drawn_) write_("\n");
    drawn_ = false;
    finished_ = true;
  }

 private:
  static void to_stderr(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
  }

  static std::string duration(double seconds) {
    char text[32];
    if (seconds < 60) {
      std::snprintf(text, sizeof text, "%.1f s", seconds);
    } else {
      const long whole = static_cast<long>(seconds);
      std::snprintf(text, sizeof text, "%ld:%02ld min", whole / 60, whole % 60);
    }
    return text;
  }

  std::string line(std::size_t done, std::size_t total, clock::time_point time) const {
    constexpr std::size_t width = 24;
    const double elapsed = std::chrono::duration<double>(time - start_).count();
    const std::size_t filled = total > 0 ? width * (done < total ? done : total) / total : width;
    std::string out = stage_;
    if (out.size() < 12) out.resize(12, ' ');
    if (how_ == display::terminal) {
      out += ' ';
      for (std::size_t i = 0; i < width; ++i) out += i < filled ? "█" : "░";
    }
    out += " " + std::to_string(done) + "/" + std::to_string(total) + "  " + duration(elapsed);
    if (done > 0 && done < total)
      out += ", about " + duration(elapsed * static_cast<double>(total - done) / static_cast<double>(done)) + " left";
    return out;
  }

  display how_;
  std::function<void(std::string_view)> write_;
  std::function<clock::time_point()> now_;
  std::string stage_;
  clock::time_point start_{}, last_{};
  std::size_t shown_tenth_ = 0;
  bool finished_ = true, drawn_ = false;
};

}  // namespace report

/// Files, staged folders and model folders: whole or not at all, and every fault by name.

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>

#include "catch.hpp"
#include "scratch_folder.hpp"

using namespace rlvr::decoder;
namespace fs = std::filesystem;
using scratch = rlvr::testing::scratch_folder;

namespace {

/// What fsync does in this program: says 0, or what the test at work wants.
std::function<int(const fs::path&)> when_synced;

}  // namespace

/// In the place of the system's.
extern "C" int fsync(int file) {
  const int error = when_synced ? when_synced(fs::read_symlink("/proc/self/fd/" + std::to_string(file))) : 0;
  errno = error;
  return error == 0 ? 0 : -1;
}

namespace {

/// Runs `work` while fsync does `instead`, which returns an errno.
template <class F>
void while_syncing(std::function<int(const fs::path&)> instead, F work) {
  when_synced = std::move(instead);
  try {
    work();
  } catch (...) {
    when_synced = nullptr;
    throw;
  }
  when_synced = nullptr;
}

void put(const fs::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

template <class Error, class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

config small_config(bool tied) {
  return {.vocab_size = 5,
          .hidden_size = 4,
          .intermediate_size = 3,
          .layers = 1,
          .heads = 2,
          .kv_heads = 1,
          .head_dim = 2,
          .tied_embeddings = tied,
          .eos = {1},
          .pad = 0};
}
std::vector<float> small_parameters(const config& c) {
  std::vector<float> out(parameter_count(layout(c)));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = 0.1f * static_cast<float>(i) - 3;
  return out;
}

}  // namespace

TEST_CASE("files: read and write") {
  const scratch dir;
  const fs::path file = dir.path / "f";
  const std::string bytes("a\0b\r\n", 5);
  write_file(file, bytes);
  CHECK(read_file(file) == bytes);
  write_file(file, "");
  CHECK(read_file(file).empty());
  put(dir.path / "f.tmp0", "somebody's");  // a name that is taken is left alone
  write_file(file, "new");
  CHECK(read_file(file) == "new");
  CHECK(read_file(dir.path / "f.tmp0") == "somebody's");
  CHECK(dir.entries() == 2);

  CHECK(error_of<input_error>([&] { read_file(dir.path / "g"); }) == "no file " + (dir.path / "g").string());
  CHECK(error_of<input_error>([&] { read_file(file / "g"); }) == "no file " + (file / "g").string());
  CHECK(error_of<file_error>([&] { read_file(dir.path); }) ==
        "cannot read " + dir.path.string() + ": Is a directory");
  CHECK(error_of<file_error>([&] { write_file(dir.path / "no" / "f", "x"); }) ==
        "cannot write " + (dir.path / "no" / "f").string() + ": No such file or directory");
  fs::create_directory(dir.path / "d");
  CHECK(error_of<file_error>([&] { write_file(dir.path / "d", "x"); }) ==
        "cannot write " + (dir.path / "d").string() + ": Is a directory");
  CHECK(dir.entries() == 3);
  // Renaming would put a file in the place of a device.
  const fs::path pipe = dir.path / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(error_of<input_error>([&] { write_file(pipe, "x"); }) ==
        pipe.string() + " is a device or a pipe, which a file cannot replace");
  CHECK(fs::is_fifo(pipe));
  CHECK(dir.entries() == 4);
}

TEST_CASE("files: a write that fails leaves the older file and nothing else") {
  const scratch dir;
  const fs::path file = dir.path / "f";
  write_file(file, "old");
  // A limit on the size of files stands for a full disk.
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit tight = before;
  tight.rlim_cur = 4096;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &tight) == 0);
  const std::string at_once = error_of<file_error>([&] { write_file(file, std::string(1 << 20, 'x')); });
  const std::string at_close = error_of<file_error>([&] { write_file(file, std::string(4097, 'x')); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(at_once == "cannot write " + file.string() + ": File too large");
  CHECK(at_close == "cannot write " + file.string() + ": File too large");
  CHECK(read_file(file) == "old");
  CHECK(dir.entries() == 1);
}

TEST_CASE("files: the bytes are on the disk before the name, and the name before the return") {
  const scratch dir;
  const fs::path file = dir.path / "f";
  put(file, "old");
  std::vector<std::string> order;
  while_syncing(
      [&](const fs::path& synced) {
        order.push_back((synced == dir.path ? "folder" : read_file(synced)) + " " + read_file(file));
        return 0;
      },
      [&] { write_file(file, "new"); });
  CHECK(order == std::vector<std::string>{"new old", "folder new"});

  const fs::path before = fs::current_path();
  fs::current_path(dir.path);
  std::vector<fs::path> synced;
  while_syncing(
      [&](const fs::path& path) {
        synced.push_back(path);
        return 0;
      },
      [&] { write_file("f", "newer"); });
  fs::current_path(before);
  REQUIRE(synced.size() == 2);
  CHECK(synced[0].parent_path() == dir.path);
  CHECK(synced[1] == dir.path);
  CHECK(dir.entries() == 1);
}

TEST_CASE("files: a disk that fails in the end") {
  const scratch dir;
  const fs::path file = dir.path / "f";
  put(file, "old");
  const auto failing = [&](bool folder, int error) {
    return [&dir, folder, error](const fs::path& path) { return (path == dir.path) == folder ? error : 0; };
  };
  CHECK(error_of<file_error>([&] { while_syncing(failing(false, EIO), [&] { write_file(file, "new"); }); }) ==
        "cannot write " + file.string() + ": Input/output error");
  CHECK(read_file(file) == "old");
  CHECK(dir.entries() == 1);
  // Some file systems cannot sync folders.
  while_syncing(failing(true, EINVAL), [&] { write_file(file, "new"); });
  CHECK(read_file(file) == "new");
  // Too late for the older file.
  CHECK(error_of<file_error>([&] { while_syncing(failing(true, EIO), [&] { write_file(file, "newer"); }); }) ==
        "cannot write " + file.string() + ": Input/output error");
  CHECK(read_file(file) == "newer");
  CHECK(dir.entries() == 1);
}

TEST_CASE("files: a link stays, and what it leads to is written") {
  const scratch dir;
  fs::create_directory(dir.path / "data");
  fs::create_directory(dir.path / "links");
  const fs::path file = dir.path / "data" / "f", link = dir.path / "links" / "f", second = dir.path / "links" / "g";
  fs::create_symlink("../data/f", link);  // to nothing yet
  fs::create_symlink(second.parent_path() / "f", second);
  write_file(link, "1");
  CHECK(fs::is_regular_file(fs::symlink_status(file)));
  CHECK(read_file(file) == "1");
  write_file(second, "2");
  CHECK(read_file(file) == "2");
  CHECK(fs::read_symlink(link) == "../data/f");
  CHECK(fs::is_symlink(second));

  const fs::path before = fs::current_path();
  fs::current_path(link.parent_path());
  write_file("f", "3");
  fs::current_path(before);
  CHECK(read_file(file) == "3");
  while_syncing([&](const fs::path& path) { return path == dir.path / "data" ? 0 : EIO; },
                [&] { CHECK_THROWS_AS(write_file(link, "4"), file_error); });
  CHECK(read_file(file) == "3");

  const fs::path pipe = dir.path / "data" / "pipe", round = dir.path / "links" / "round";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  fs::create_symlink(pipe, dir.path / "links" / "pipe");
  CHECK(error_of<input_error>([&] { write_file(dir.path / "links" / "pipe", "x"); }) ==
        pipe.string() + " is a device or a pipe, which a file cannot replace");
  fs::create_symlink("round", round);
  CHECK(error_of<file_error>([&] { write_file(round, "x"); }) ==
        "cannot write " + round.string() + ": Too many levels of symbolic links");
  fs::create_symlink(dir.path / "no" / "f", dir.path / "links" / "lost");
  CHECK(error_of<file_error>([&] { write_file(dir.path / "links" / "lost", "x"); }) ==
        "cannot write " + (dir.path / "no" / "f").string() + ": No such file or directory");
  CHECK(std::distance(fs::directory_iterator(dir.path / "data"), {}) == 2);
  CHECK(std::distance(fs::directory_iterator(dir.path / "links"), {}) == 5);
}

TEST_CASE("files: written in pieces, whole or not at all") {
  const scratch dir;
  const fs::path file = dir.path / "f";
  write_file(file, [](auto& put) {
    put("ab");
    put("");
    put(std::string_view("\0c", 2));
  });
  CHECK(read_file(file) == std::string("ab\0c", 4));
  CHECK_THROWS_AS(write_file(file,
                             [](auto& put) {
                               put("half");
                               throw std::out_of_range("the source failed");
                             }),
                  std::out_of_range);
  CHECK(read_file(file) == std::string("ab\0c", 4));
  CHECK(dir.entries() == 1);
}

TEST_CASE("staged folder: appears whole or not at all") {
  const scratch dir;
  const fs::path out = dir.path / "a" / "out";
  {
    staged_folder staged(out, {"f", "g"});
    put(staged.path() / "f", "1");
    CHECK(!fs::exists(out));
  }
  CHECK(fs::is_empty(dir.path / "a"));
  {
    staged_folder staged(out / "", {"f", "g"});
    put(staged.path() / "f", "1");
    staged.commit();
    CHECK(staged.path().empty());
    CHECK_THROWS_AS(staged.commit(), std::invalid_argument);
  }
  CHECK(read_file(out / "f") == "1");
  {
    staged_folder staged(out, {"f", "g"});
    put(staged.path() / "g", "2");
    CHECK(read_file(out / "f") == "1");
    staged.commit();
  }
  CHECK(!fs::exists(out / "f"));
  CHECK(read_file(out / "g") == "2");
  CHECK(std::distance(fs::directory_iterator(dir.path / "a"), {}) == 1);
  {
    fs::create_directory_symlink(out,
                                 dir.path / "link");  // the folder behind a link is replaced, the link stays
    staged_folder staged(dir.path / "link", {"f", "g"});
    put(staged.path() / "f", "3");
    staged.commit();
    CHECK(fs::is_symlink(dir.path / "link"));
    CHECK(read_file(out / "f") == "3");
  }
}

TEST_CASE("staged folder: its name is on the disk before the older folder goes") {
  const scratch dir;
  const fs::path out = dir.path / "out";
  const auto stage = [&](const char* text) {
    staged_folder staged(out, {"f"});
    write_file(staged.path() / "f", text);
    std::size_t synced = 0;
    while_syncing(
        [&](const fs::path& path) {
          CHECK(path == dir.path);
          CHECK(read_file(out / "f") == text);
          CHECK(dir.entries() == (text == std::string("1") ? 1 : 2));
          ++synced;
          return text == std::string("3") ? EIO : 0;
        },
        [&] { staged.commit(); });
    CHECK(synced == 1);
  };
  stage("1");
  stage("2");
  CHECK(error_of<file_error>([&] { stage("3"); }) == "cannot write " + out.string() + ": Input/output error");
  CHECK(read_file(out / "f") == "2");
  CHECK(dir.entries() == 1);
}

TEST_CASE("staged folder: relative names") {
  const scratch dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir.path);
  for (const char* name : {"out", "./out/", "a/out/"}) {
    staged_folder staged(name, {"f"});
    put(staged.path() / "f", name);
    staged.commit();
    CHECK(read_file(fs::path(name) / "f") == name);
  }
  CHECK(error_of<input_error>([&] { staged_folder(".", {"f"}); }).find("choose another folder") !=
        std::string::npos);
  CHECK(error_of<input_error>([&] { staged_folder("/", {"f"}); }).find("choose another folder") !=
        std::string::npos);
  fs::current_path(before);
}

TEST_CASE("staged folder: nobody's files are lost") {
  const scratch dir;
  const fs::path out = dir.path / "out";
  fs::create_directory(out);
  put(out / "thesis.txt", "years");
  const std::string message =
      "the folder " + out.string() +
      " holds thesis.txt, which is not an output of this program; choose another folder";
  CHECK(error_of<input_error>([&] { staged_folder(out, {"f"}); }) == message);
  fs::remove(out / "thesis.txt");
  {
    staged_folder staged(out, {"f"});
    put(out / "thesis.txt", "years");  // while we were busy
    CHECK(error_of<input_error>([&] { staged.commit(); }) == message);
  }
  CHECK(read_file(out / "thesis.txt") == "years");
  CHECK(dir.entries() == 1);
  CHECK(error_of<input_error>([&] { staged_folder(out / "thesis.txt", {"f"}); }) ==
        (out / "thesis.txt").string() + " is not a folder");
  CHECK(error_of<input_error>([&] { staged_folder("", {"f"}); }) == "not a folder name: \"\"");
  CHECK(error_of<file_error>([&] { staged_folder(out / "thesis.txt" / "x", {"f"}); }) ==
        "cannot create " + (out / "thesis.txt").string() + ": Not a directory");
}

TEST_CASE("model folder: what is saved is loaded") {
  const scratch dir;
  for (const bool tied : {false, true})
    for (const storage as : {storage::f32, storage::bf16}) {
      config c = small_config(tied);
      const char_tokenizer t("012");
      const std::vector<float> p = small_parameters(c);
      save_model(dir.path / "m", c, t, std::span<const float>(p), as);
      const model_files m = load_model(dir.path / "m");
      CHECK(m.cfg == c);
      CHECK(m.tokenizer == t);
      REQUIRE(m.parameters.size() == p.size());
      for (std::size_t i = 0; i < p.size(); ++i)
        CHECK(m.parameters[i] == (as == storage::f32 ? p[i] : from_bf16(to_bf16(p[i]))));
      CHECK(load_parameters<double>(dir.path / "m", c).back() == double(m.parameters.back()));
    }
  CHECK(dir.entries() == 1);

  config c = small_config(false);
  c.eos.clear();
  const std::vector<float> p = small_parameters(c);
  save_model(dir.path / "m", c, char_tokenizer("01"), std::span<const float>(p), storage::f32);
  CHECK(load_model(dir.path / "m").cfg.eos == std::vector<rlvr::token>{1});
  put(dir.path / "m" / "generation_config.json", R"({"eos_token_id": [1, 3]})");
  CHECK(load_model(dir.path / "m").cfg.eos == std::vector<rlvr::token>{1, 3});
  put(dir.path / "m" / "generation_config.json", R"({"eos_token_id": 7})");
  CHECK(error_of<input_error>([&] { load_model(dir.path / "m"); }) ==
        (dir.path / "m" / "generation_config.json").string() + ": eos_token_id is 7, but vocab_size is 5");
}

TEST_CASE("model folder: parameters and tokenizer must fit") {
  const scratch dir;
  const config c = small_config(false);
  const std::vector<float> p = small_parameters(c);
  CHECK_THROWS_AS(
      save_model(dir.path / "m", c, char_tokenizer("012"), std::span<const float>(p).first(7), storage::f32),
      std::invalid_argument);
  CHECK_THROWS_AS(
      save_model(dir.path / "m", c, char_tokenizer("0123"), std::span<const float>(p), storage::f32),
      std::invalid_argument);
  CHECK(dir.entries() == 0);
}

TEST_CASE("model folder: missing and unfitting files") {
  const scratch dir;
  const fs::path m = dir.path / "m";
  const config c = small_config(false);
  const std::vector<float> p = small_parameters(c);
  const auto fault = [&] { return error_of<input_error>([&] { load_model(m); }); };
  CHECK(fault() == "no model folder " + m.string());
  for (const std::string& name : model_file_names()) {
    save_model(m, c, char_tokenizer("012"), std::span<const float>(p), storage::f32);
    fs::remove(m / name);
    CHECK(fault() == "no file " + (m / name).string());
  }
  save_model(m, c, char_tokenizer("012"), std::span<const float>(p), storage::f32);
  put(m / "tokenizer.json", tokenizer_json(char_tokenizer("0123")));
  CHECK(fault() == m.string() + ": tokenizer.json has 6 tokens, but vocab_size in config.json is 5");
  put(m / "tokenizer.json", tokenizer_json(char_tokenizer("012")));
  CHECK(fault() == "no error");
  put(m / "model.safetensors", "damaged");
  CHECK(error_of<file_error>([&] { load_model(m); }) ==
        (m / "model.safetensors").string() +
            ": damaged safetensors file: shorter than the 8 bytes of the header length");
}

TEST_CASE("mapped file: the bytes of a file") {
  const scratch dir;
  const fs::path file = dir.path / "f";
  const std::string bytes = std::string("a\0b\r\n", 5) + std::string(10000, 'x');
  put(file, bytes);
  const auto text = [](const mapped_file& f) { return std::string(f.bytes().begin(), f.bytes().end()); };
  mapped_file first(file);
  CHECK(text(first) == bytes);
  const mapped_file moved(std::move(first));
  write_file(file, "new");  // what is mapped stays what it was
  CHECK(text(moved) == bytes);
  CHECK(text(mapped_file(file)) == "new");
  put(file, "");
  CHECK(mapped_file(file).bytes().empty());
  CHECK(error_of<input_error>([&] { mapped_file(dir.path / "g"); }) == "no file " + (dir.path / "g").string());
  CHECK(error_of<file_error>([&] { mapped_file f(dir.path); }) == "cannot read " + dir.path.string() + ": Is a directory");
  put(dir.path / "s", "abc");  // short enough for std::string to keep it inside
  mapped_file before(dir.path / "s");
  CHECK(text(mapped_file(std::move(before))) == "abc");
}

TEST_CASE("model folder: weights in several files") {
  const scratch dir;
  const fs::path m = dir.path / "m";
  const config c = small_config(false);
  const std::vector<rlvr::tensor_slot> slots = layout(c);
  const std::vector<float> p = small_parameters(c);
  const char_tokenizer t("012");
  save_model(m, c, t, std::span<const float>(p), storage::f32);
  fs::remove(m / "model.safetensors");
  const std::string one = "model-00001-of-00002.safetensors", two = "model-00002-of-00002.safetensors";
  const auto shard = [&](const std::string& name, std::size_t from, std::size_t to) {
    put(m / name, write_safetensors(std::span<const rlvr::tensor_slot>(slots).subspan(from, to - from),
                                    std::span<const float>(p), storage::f32));
  };
  nlohmann::json index = {{"metadata", {{"total_size", 4 * p.size()}}}};
  const auto write_index = [&] { put(m / "model.safetensors.index.json", index.dump()); };
  for (std::size_t i = 0; i < slots.size(); ++i) index["weight_map"][slots[i].name] = i < 4 ? one : two;
  write_index();
  shard(one, 0, 4);
  shard(two, 4, slots.size());
  CHECK(load_model(m).parameters == p);
  CHECK(load_parameters<double>(m, c).back() == double(p.back()));

  const auto fault = [&] { return error_of<input_error>([&] { load_model(m); }); };
  const std::string said = (m / "model.safetensors.index.json").string(), in_one = (m / one).string(),
                    in_two = (m / two).string();
  shard(one, 0, 3);
  CHECK(fault() == in_one + ": no tensor " + slots[3].name + ", which model.safetensors.index.json expects there");
  shard(one, 0, 5);
  CHECK(fault() == in_one + ": tensor " + slots[4].name + " is not there according to model.safetensors.index.json");
  index["weight_map"].erase(slots[4].name);
  write_index();
  shard(one, 0, 4);
  CHECK(fault() == in_two + ": tensor " + slots[4].name + " is not there according to model.safetensors.index.json");
  shard(two, 5, slots.size());
  CHECK(fault() == said + ": no tensor " + slots[4].name);
  index["weight_map"][slots[4].name] = two;
  write_index();
  fs::remove(m / two);
  CHECK(fault() == "no file " + in_two);
  put(m / two, "damaged");
  CHECK(error_of<file_error>([&] { load_model(m); }) ==
        in_two + ": damaged safetensors file: shorter than the 8 bytes of the header length");
  for (const char* name : {"../" "model.safetensors", "/etc/passwd", "..", ""}) {
    index["weight_map"][slots[4].name] = name;
    write_index();
    CHECK(fault() == said + ": weight_map of " + slots[4].name + " is \"" + name +
                         "\", expected the name of a file in the same folder");
  }
  index["weight_map"][slots[4].name] = 3;
  write_index();
  CHECK(fault() == said + ": weight_map of " + slots[4].name + " is 3, expected the name of a file");
  index = {{"weight_map", nlohmann::json::object()}};
  write_index();
  CHECK(fault() == said + ": weight_map is {}, expected an object of tensors and their files");
  put(m / "model.safetensors.index.json", "{}");
  CHECK(fault() == said + ": no field \"weight_map\"");
  // A single file wins over an index.
  put(m / "model.safetensors", write_safetensors(std::span<const rlvr::tensor_slot>(slots), std::span<const float>(p), storage::f32));
  CHECK(load_model(m).parameters == p);
}

TEST_CASE("model folder: tensors are checked by name") {
  const config c = small_config(false), tied = small_config(true);
  const std::vector<rlvr::tensor_slot> slots = layout(c);
  std::vector<float> p = small_parameters(c);
  const auto fault = [](const config& shape, const std::vector<rlvr::tensor_slot>& stored,
                        const std::vector<float>& values) {
    const std::string file = write_safetensors(std::span<const rlvr::tensor_slot>(stored),
                                               std::span<const float>(values), storage::f32);
    return error_of<input_error>([&] { parse_parameters<float>(file, shape, "m"); });
  };
  CHECK(fault(c, slots, p) == "no error");
  auto stored = slots;
  stored.erase(stored.begin() + 2);
  CHECK(fault(c, stored, p) == "m: no tensor model.layers.0.self_attn.q_proj.weight");
  stored = slots;
  stored[2].shape = {2, 8};
  CHECK(fault(c, stored, p) ==
        "m: tensor model.layers.0.self_attn.q_proj.weight has shape [2, 8], expected [4, 4]");
  stored = slots;
  stored[1].shape = {};
  CHECK(fault(c, stored, p) == "m: tensor model.layers.0.input_layernorm.weight has shape [], expected [4]");
  stored = slots;
  stored.push_back({"model.layers.0.self_attn.q_proj.bias", {4}, 0});
  CHECK(fault(c, stored, p) ==
        "m: tensor model.layers.0.self_attn.q_proj.bias is not part of a llama model with this config.json");

  // Tied embeddings: a copy of them is accepted as lm_head.weight, other values are not.
  CHECK(fault(tied, slots, p) ==
        "m: lm_head.weight differs from model.embed_tokens.weight, but config.json ties them");
  std::copy_n(p.begin(), slots.front().size(), p.begin() + static_cast<std::ptrdiff_t>(slots.back().offset));
  CHECK(fault(tied, slots, p) == "no error");
  stored = slots;
  stored.back().shape = {4, 5};
  CHECK(fault(tied, stored, p) == "m: tensor lm_head.weight has shape [4, 5], expected [5, 4]");

  std::string file =
      write_safetensors(std::span<const rlvr::tensor_slot>(slots), std::span<const float>(p), storage::f32);
  file.replace(file.find("F32"), 3, "I32");
  CHECK(error_of<input_error>([&] { parse_parameters<float>(file, c, "m"); }) ==
        "m: tensor lm_head.weight has dtype I32, expected F64, F32, F16 or BF16");
}

TEST_CASE("model folder: a checkpoint that nobody here wrote") {
#ifdef RLVR_SHARED_DATA
  const fs::path folder = fs::path(RLVR_SHARED_DATA) / "tiny_llama_arithmetic_sequence";
#else
  const fs::path folder;
#endif
  if (!fs::exists(folder / "config.json")) {
    WARN("skipped: the folder of shared data is absent");
    return;
  }
  const config c = load_config(folder);
  CHECK(c.layers == 4);
  CHECK(c.hidden_size == 128);
  CHECK(c.eos == std::vector<rlvr::token>{1});
  CHECK(load_parameters(folder, c).size() == parameter_count(layout(c)));
}

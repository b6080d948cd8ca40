// Probabilities of jets, by a package of `pcloud export RUN tagger.pt2`.
//
// Each line of the standard input is a jet: E px py pz of its particles in GeV, one after the other.
// The network must take momenta only (features such as kin).
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/Version.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/torch.h>

// Ends the program if the package was made for another processor or another version of PyTorch.
void check(const std::unordered_map<std::string, std::string>& metadata) {
  const std::string cpu = "\"" + at::get_cpu_capability() + "\"";
  const std::string torch = TORCH_VERSION;
  if (metadata.at("pcloud.cpu") != cpu) {
    std::cerr << "made for a processor with " << metadata.at("pcloud.cpu") << ", this has " << cpu << "\n";
    std::exit(2);
  }
  if (metadata.at("pcloud.torch").find("\"" + torch) != 0) {
    std::cerr << "made with PyTorch " << metadata.at("pcloud.torch") << ", this is " << torch << "\n";
    std::exit(2);
  }
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: tag tagger.pt2 < jets.txt\n";
    return 2;
  }
  const c10::InferenceMode guard;
  torch::inductor::AOTIModelPackageLoader tagger(argv[1]);
  check(tagger.get_metadata());
  std::cout.precision(8);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream numbers(line);
    std::vector<float> values;
    for (float value; numbers >> value;) values.push_back(value);
    const auto particles = static_cast<int64_t>(values.size() / 4);
    const auto p4 = torch::from_blob(values.data(), {particles, 4}).clone();
    const auto p = tagger.run({p4})[0].contiguous();
    for (int64_t i = 0; i < p.numel(); ++i) std::cout << (i ? " " : "") << p.data_ptr<float>()[i];
    std::cout << "\n";
  }
}

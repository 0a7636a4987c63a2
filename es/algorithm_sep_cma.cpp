// sep_cma: CMA-ES with a diagonal covariance.
#include "es/algorithms.h"
#include "es/cma.h"

namespace eep {
namespace {

struct SepCmaParameters {
  int32_t samples = 0;  // of a generation; 0: 4 + 3 ln d
  double sigma = 0.1;   // at first

  bool operator==(const SepCmaParameters&) const = default;
};

void visit(ParameterVisitor& v, SepCmaParameters& p) {
  v.integer("samples", p.samples, 0, 1000000);
  v.number("sigma", p.sigma, 1e-6, 10);
}

class SepCma final : public CmaSearch {
 public:
  explicit SepCma(const SepCmaParameters& p) : CmaSearch(p.samples, p.sigma, 1) {}
};

}  // namespace

AlgorithmRow sep_cma_algorithm() {
  return own_algorithm<SepCma, SepCmaParameters>(
      "sep_cma", "covariance matrix adaptation with a width for every coefficient", false, true);
}

}  // namespace eep

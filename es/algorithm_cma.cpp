// cma: CMA-ES with a full covariance up to `block` coefficients, above that of each layer group.
#include "es/algorithms.h"
#include "es/cma.h"

namespace eep {
namespace {

struct CmaParameters {
  int32_t samples = 0;  // of a generation; 0: 4 + 3 ln d
  double sigma = 0.1;   // at first
  int32_t block = 1024;

  bool operator==(const CmaParameters&) const = default;
};

void visit(ParameterVisitor& v, CmaParameters& p) {
  v.integer("samples", p.samples, 0, 1000000);
  v.number("sigma", p.sigma, 1e-6, 10);
  v.integer("block", p.block, 1, 4096);
}

class Cma final : public CmaSearch {
 public:
  explicit Cma(const CmaParameters& p) : CmaSearch(p.samples, p.sigma, p.block) {}
};

}  // namespace

AlgorithmRow cma_algorithm() {
  return own_algorithm<Cma, CmaParameters>(
      "cma", "covariance matrix adaptation: learns which coefficients move together", false, true);
}

}  // namespace eep

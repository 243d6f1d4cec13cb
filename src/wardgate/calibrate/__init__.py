"""`Scores` to `Probabilities`, and thresholds for a stated risk at a stated confidence. Applying needs numpy only."""

from wardgate.calibrate.calibrator import FALSE_POSITIVE_RATES, Calibrator
from wardgate.calibrate.probabilities import Probabilities

__all__ = ["FALSE_POSITIVE_RATES", "Calibrator", "Probabilities"]

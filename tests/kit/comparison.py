"""Differences of arrays, and a table of them beside their tolerances."""
import numpy as np


class Table:
    """Differences beside their tolerances."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.rows: dict[str, tuple[float, float]] = {}

    def add(self, quantity: str, difference: float, tolerance: float) -> None:
        """Several differences of one quantity keep the largest."""
        difference = float(difference)
        assert not np.isnan(difference), quantity
        self.rows[quantity] = (max(difference, self.rows.get(quantity, (0.,))[0]), tolerance)

    def check(self) -> None:
        lines = [f'{quantity:32} {difference:10.2e}   <= {tolerance:.0e}'
                 for quantity, (difference, tolerance) in self.rows.items()]
        print(f'\n{self.case}\n' + '\n'.join(lines))
        wrong = [quantity for quantity, (difference, tolerance) in self.rows.items() if difference > tolerance]
        assert not wrong, f'{self.case}: {", ".join(wrong)} beyond tolerance; see the table above'


def array(x) -> np.ndarray:
    return x.detach().numpy()


def largest(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a.astype(np.float64) - b).max(initial=0))

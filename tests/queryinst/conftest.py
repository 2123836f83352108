"""As the tests of the model: in the package's scope and from the same random state."""
from tests.models.conftest import scope_and_seed  # noqa: F401

"""Operations that are faster on CPUs than those that torch has for them."""

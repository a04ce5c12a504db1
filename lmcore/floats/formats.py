"""A float format is a handful of numbers: how many bits for exponent and mantissa, the bias, and what the specials are.

A pattern of bits is read from the left as sign s, exponent E and mantissa M, of 1, e and m bits. Its number is

    (−1)ˢ · 2^(E − bias) · (1 + M / 2ᵐ)   if E > 0,        (−1)ˢ · 2^(1 − bias) · M / 2ᵐ   if E = 0 (subnormal),

except for the special patterns. Which those are is where formats of the same sizes differ:

    "ieee"    the highest E means infinity if M = 0, and NaN if not: FP32, FP16, BF16, E5M2
    "fn"      finite: no infinity, and NaN only where E and M are all ones: E4M3
    "fnuz"    finite, unsigned zero: no infinity; the pattern of −0 is the only NaN
    "none"    every pattern is a number: the formats of 6 and 4 bits
"""

import math
from dataclasses import dataclass
from numbers import Integral

SPECIALS = ("ieee", "fn", "fnuz", "none")


@dataclass(frozen=True, kw_only=True)
class FloatFormat:
    """Sizes and conventions of a float format of at most 32 bits.

    Args:
        name: how it is called.
        exponent: bits of the exponent, 1 to 10.   mantissa: bits of the mantissa, 0 to 29.
        bias: what is subtracted from the exponent; None: 2^(exponent − 1) − 1, as IEEE 754 has it.
        specials: which patterns are no numbers, see above.
        signed: whether there is a bit for the sign.
    Raises:
        ValueError: sizes outside of these, specials that are not known, or ones that leave no number above zero.
    Source: Goldberg 1991; Micikevicius et al. 2022 for "fn".
    Differs: formats without a zero, such as E8M0, are not covered, nor is FP64, in which we compute.

    >>> toy = FloatFormat(name="toy", exponent=2, mantissa=1, specials="none")
    >>> toy.bits, toy.bias, toy.largest, toy.smallest_normal, toy.smallest
    (4, 1, 6.0, 1.0, 0.5)
    """

    name: str
    exponent: int
    mantissa: int
    bias: int | None = None
    specials: str = "ieee"
    signed: bool = True

    def __post_init__(self):
        for field, low, high in (("exponent", 1, 10), ("mantissa", 0, 29)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
                raise ValueError(f"{field} must be a whole number from {low} to {high}, got {value!r}")
        if self.specials not in SPECIALS:
            raise ValueError(f"specials must be one of {', '.join(SPECIALS)}, got {self.specials!r}")
        if self.bits > 32:
            raise ValueError(f"a format has at most 32 bits, {self.name} would have {self.bits}")
        if self.specials == "fnuz" and not self.signed:
            raise ValueError('specials "fnuz" puts NaN where −0 would be, which an unsigned format does not have')
        if self.bias is None:
            object.__setattr__(self, "bias", 2 ** (self.exponent - 1) - 1)
        low, high = 2**self.exponent - 1024, 1023  # so that every number is a normal one of float64, or a sum of those
        if isinstance(self.bias, bool) or not isinstance(self.bias, Integral) or not low <= self.bias <= high:
            raise ValueError(f"bias must be a whole number from {low} to {high}, got {self.bias!r}")
        if self.largest_code < 1:
            raise ValueError(f"{self.name}: specials {self.specials!r} leave no number above zero")

    @property
    def bits(self) -> int:
        """Bits of a pattern."""
        return self.signed + self.exponent + self.mantissa

    @property
    def largest_code(self) -> int:
        """The pattern of the largest finite number."""
        top = (1 << (self.exponent + self.mantissa)) - 1  # all ones but for the sign
        return {"ieee": top - (1 << self.mantissa), "fn": top - 1}.get(self.specials, top)

    @property
    def sign_code(self) -> int:
        """The pattern whose only one is the sign's; 0 for an unsigned format."""
        return self.signed << (self.exponent + self.mantissa)

    @property
    def infinity_code(self) -> int | None:
        """The pattern of infinity, if there is one."""
        return self.largest_code + 1 if self.specials == "ieee" else None

    @property
    def nan_code(self) -> int | None:
        """The pattern that we write for NaN, if there is any; in "ieee", the first bit of M is 1: a quiet one."""
        top = (1 << (self.exponent + self.mantissa)) - 1
        quiet = self.largest_code + 1 + (1 << self.mantissa >> 1) if self.mantissa else None
        return {"ieee": quiet, "fn": top, "fnuz": self.sign_code}.get(self.specials)

    def _positive(self, code: int) -> float:
        """The number of a pattern that is neither negative nor special."""
        field, mantissa = code >> self.mantissa, code & ((1 << self.mantissa) - 1)
        whole = mantissa + (1 << self.mantissa if field else 0)
        return math.ldexp(whole, max(field, 1) - self.bias - self.mantissa)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return self._positive(self.largest_code)

    @property
    def smallest_normal(self) -> float:
        """The smallest number above zero with a full mantissa."""
        return math.ldexp(1.0, 1 - self.bias)

    @property
    def smallest(self) -> float:
        """The smallest number above zero: the distance between subnormal numbers."""
        return math.ldexp(1.0, 1 - self.bias - self.mantissa)

    @property
    def epsilon(self) -> float:
        """Distance from 1 to the next number, if 1 is a normal number: twice the largest relative rounding error."""
        return math.ldexp(1.0, -self.mantissa)

    def fields(self, code: int) -> str:
        """The bits of a pattern, with spaces between sign, exponent and mantissa.

        Raises:
            ValueError: no pattern of this format.

        >>> FP16.fields(0x3C01)
        '0 01111 0000000001'
        """
        if not 0 <= code < 1 << self.bits:
            raise ValueError(
                f"a pattern of {self.name} is a whole number from 0 to {(1 << self.bits) - 1}, got {code!r}"
            )
        text, start, parts = f"{code:0{self.bits}b}", 0, []
        for size in (self.signed, self.exponent, self.mantissa):
            parts.append(text[start : start + size])
            start += size
        return " ".join(filter(None, parts))


FP32 = FloatFormat(name="FP32", exponent=8, mantissa=23)
TF32 = FloatFormat(name="TF32", exponent=8, mantissa=10)  # kept in 32 bits, of which the last 13 do not count
FP16 = FloatFormat(name="FP16", exponent=5, mantissa=10)
BF16 = FloatFormat(name="BF16", exponent=8, mantissa=7)
E5M2 = FloatFormat(name="E5M2", exponent=5, mantissa=2)
E4M3 = FloatFormat(name="E4M3", exponent=4, mantissa=3, specials="fn")
E5M2_FNUZ = FloatFormat(name="E5M2 fnuz", exponent=5, mantissa=2, bias=16, specials="fnuz")
E4M3_FNUZ = FloatFormat(name="E4M3 fnuz", exponent=4, mantissa=3, bias=8, specials="fnuz")
E3M2 = FloatFormat(name="E3M2", exponent=3, mantissa=2, specials="none")
E2M3 = FloatFormat(name="E2M3", exponent=2, mantissa=3, specials="none")
E2M1 = FloatFormat(name="E2M1", exponent=2, mantissa=1, specials="none")
FORMATS = (FP32, TF32, FP16, BF16, E5M2, E4M3, E5M2_FNUZ, E4M3_FNUZ, E3M2, E2M3, E2M1)

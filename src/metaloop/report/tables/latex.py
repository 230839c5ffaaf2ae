"""Escaping of text for LaTeX."""

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "≈": r"$\approx$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape(text: str) -> str:
    """Replace LaTeX's special characters and the signs of our tables; line breaks become spaces."""
    return "".join(_ESCAPES.get(character, character) for character in " ".join(text.split()))

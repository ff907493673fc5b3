"""Colors of every figure, from Okabe and Ito's palette: told apart with every common color vision, and in gray by their
lightness."""

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#E69F00", "#009E73", "#707070"

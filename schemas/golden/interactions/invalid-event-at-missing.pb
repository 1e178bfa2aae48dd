
r-1homeu-42"t3_a*click
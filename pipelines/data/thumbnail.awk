# Makes a plain PGM picture (https://netpbm.sourceforge.net/doc/pgm.html) `factor` times smaller: each pixel is the
# mean of a square of pixels. Exits with 1 where the file is not such a picture.
{
  sub(/#.*/, "")
  for (i = 1; i <= NF; i++) token[++tokens] = $i
}

END {
  width = token[2]; height = token[3]
  if (token[1] != "P2" || tokens != 4 + width * height) {
    print FILENAME ": no plain PGM picture, or not all of it" > "/dev/stderr"
    exit 1
  }
  print "P2"
  print int(width / factor), int(height / factor)
  print token[4]
  for (y = 0; y + factor <= height; y += factor) {
    line = ""
    for (x = 0; x + factor <= width; x += factor) {
      sum = 0
      for (dy = 0; dy < factor; dy++)
        for (dx = 0; dx < factor; dx++)
          sum += token[5 + (y + dy) * width + x + dx]
      line = line (x ? " " : "") int(sum / (factor * factor))
    }
    print line
  }
}

"""The process that draws for another one: python -m claude_pipeline.picture, asked and answering over its pipes."""

import sys

from claude_pipeline.picture.beside import serve

serve(sys.stdin.buffer, sys.stdout.buffer)

[
  inputs: ["{mix,.formatter}.exs", "{config,lib,test}/**/*.{ex,exs}"],
  line_length: 120,
  # Written out rather than imported from Plug, so that the format can be checked without it.
  locals_without_parens: [plug: 1, plug: 2, get: 2, post: 2, put: 2, match: 2]
]

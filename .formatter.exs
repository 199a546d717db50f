[
  line_length: 120,
  inputs: [
    "{mix,.formatter}.exs",
    "native/*.exs",
    "{lib,test,bench}/**/*.{ex,exs}"
  ],
  subdirectories: ["examples/*"]
]

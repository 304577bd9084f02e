// Package configs reads the programs' configuration files and carries one
// commented, complete example for each program.
package configs

// Load reads the YAML file at path into v: unknown keys, duplicates and values
// of the wrong type are errors that name file, line, value and remedy.
// Durations are written "10s". Relative paths stay as written; a program
// resolves them against the folder of its configuration file (see Dir).
func Load(path string, v any) error { panic("not built") }

package configs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"cordon/audit"
	"cordon/authority"
	"cordon/configs"
	"cordon/oversight"
	"cordon/resolver"
	"cordon/stoppage"
)

// programs gives, for each example, how its program reads it.
var programs = map[string]func(path string) error{
	"cordon-auditor.yaml":   auditor,
	"cordon-authority.yaml": settings,
	"cordon-oversight.yaml": official,
	"cordon-resolver.yaml":  func(path string) error { _, err := resolver.LoadConfig(path); return err },
	"cordon-stoppage.yaml":  func(path string) error { _, _, err := stoppage.LoadConfig(path); return err },
	"stoppage-pages.yaml":   func(path string) error { _, err := stoppage.LoadTexts(path); return err },
	"procedure-france.yaml": procedure,
	"procedure-tco.yaml":    procedure,
	"procedure-court.yaml":  procedure,
}

func procedure(path string) error {
	data, err := configs.Examples.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = authority.ParseProcedure(path, data)
	return err
}

func official(path string) error {
	c := oversight.DefaultConfig()
	if err := configs.Load(path, &c); err != nil {
		return err
	}
	return c.Validate()
}

func auditor(path string) error {
	c := audit.DefaultConfig()
	if err := configs.Load(path, &c); err != nil {
		return err
	}
	return c.Validate()
}

// settings reads the example under the name that it has in the authority's
// folder.
func settings(path string) error {
	dir, err := os.MkdirTemp("", "authority")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, authority.SettingsFile), data, 0o600); err != nil {
		return err
	}
	_, err = authority.LoadSettings(dir)
	return err
}

func TestEveryExampleIsReadByItsProgram(t *testing.T) {
	names, err := fs.Glob(configs.Examples, "*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			load, ok := programs[name]
			if !ok {
				t.Fatal("no program is named for this example; add it to programs")
			}
			if err := load(name); err != nil {
				t.Error(err)
			}
		})
	}
}

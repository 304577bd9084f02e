package configs_test

import (
	"testing"

	"cordon/configs"
	"cordon/stoppage"
)

// programs gives, for each example, what its program reads it into.
var programs = map[string]func() any{
	"cordon-stoppage.yaml": func() any { c := stoppage.DefaultConfig(); return &c },
	"stoppage-pages.yaml":  func() any { return &stoppage.Texts{} },
}

func TestExamplesLoadIntoTheirPrograms(t *testing.T) {
	for name, target := range programs {
		t.Run(name, func(t *testing.T) {
			data, err := configs.Examples.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := configs.Parse(name, data, target()); err != nil {
				t.Error(err)
			}
		})
	}
}

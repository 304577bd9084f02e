package stoppage

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"cordon/configs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exampleTexts are the texts that are shipped, so that what is tested is what
// people read.
func exampleTexts(t testing.TB) *Texts {
	t.Helper()
	data, err := configs.Examples.ReadFile("stoppage-pages.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var texts Texts
	if err := configs.Parse("stoppage-pages.yaml", data, &texts); err != nil {
		t.Fatal(err)
	}
	return &texts
}

func exampleConfig(t testing.TB) Config {
	t.Helper()
	data, err := configs.Examples.ReadFile("cordon-stoppage.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	if err := configs.Parse("cordon-stoppage.yaml", data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func exampleSite(t testing.TB) *site {
	t.Helper()
	s, err := newSite(exampleTexts(t), "https://operator.example/blocking", func(string, string) {})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func exampleServer(t testing.TB, c Config, log *slog.Logger) *Server {
	t.Helper()
	s, err := New(c, exampleTexts(t), log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

package configs_test

import (
	"strings"
	"testing"

	"cordon/configs"
)

// Whatever the file, Parse returns, and what it refuses it refuses by name.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"name: x\nport: 53\nwait: 10s\n", "limits: {bytes: 1, idle: 2s}", "lists:\n- bytes: 1\n- idle: 1h\n",
		"listen: '[::1]:53'\nallowed: [::/0]", "texts:\n  fr: |\n    a\n    b\n", "any: {a: [1, {b: c}]}",
		"a: &a [*a]", "<<: *x", "name: !!str x", "---\n---\n", "? x\n: y", "\xef\xbb\xbfname: x", "name: \"\\u0000\"", "- - - -", "{[", "%YAML 1.2\n---\nname: x",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v sample
		if err := configs.Parse("file.yaml", data, &v); err != nil && !strings.HasPrefix(err.Error(), "file.yaml:") {
			t.Errorf("the error does not name the file: %v", err)
		}
	})
}

package tomlfile

import "testing"

// TestAWrongTypeIsNamedWithItsLineAndKey, in the words of whoever writes the file.
func TestAWrongTypeIsNamedWithItsLineAndKey(t *testing.T) {
	for text, says := range map[string]string{
		"n = 'x'\n":                           `line 1: n is of type string; it must be a whole number`,
		"# x\n\nn = 5.5":                      `line 3: n is of type float; it must be a whole number`,
		"[table]\nlist = ['a',\n 'b',\n 5]\n": `line 4: table.list is of type integer; it must be a text in quotes`,
		"[table]\nlist = 'a'\n":               `line 2: table.list is of type string; it must be a list of texts: ["a", "b"]`,
		"[table]\nids = 1\n":                  `line 2: table.ids is of type integer; it must be a list of numbers: [1, 2]`,
		"[table]\nids = ['1']\n":              `line 2: table.ids is of type string; it must be a whole number`,
		"n = 1\ntable = 5\n":                  `line 2: table is of type integer; it must be a table`,
		"on = 1\n":                            `line 1: on is of type integer; it must be true or false`,
		"n = 1\n[table]\nlist = []\nwait = true\nids = []\n": `line 4: table.wait: time: invalid duration "true"`,
		"[table]\nwait = [1]\n":                              `line 2: table.wait is of type array; it must be a duration in quotes, such as "90s"`,
		"n = 1\nwait = \n":                                   `line 2, column 8: unexpected character U+000A at start of value`,
		"m = 1\n":                                            `line 1: unknown key "m": it is misspelt, or of another version than this one`,
	} {
		var c struct {
			N     int  `toml:"n"`
			On    bool `toml:"on"`
			Table struct {
				List []string `toml:"list"`
				IDs  []uint32 `toml:"ids"`
				Wait Duration `toml:"wait"`
			} `toml:"table"`
		}
		if err := Decode([]byte(text), &c); err == nil || err.Error() != says {
			t.Errorf("%s\n%v\nwant %s", text, err, says)
		}
	}
}

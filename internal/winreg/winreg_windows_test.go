package winreg

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/windows/registry"
)

// scratch is the path of a key of this test alone, which is not there yet.
func scratch(t *testing.T) string {
	t.Helper()
	path := fmt.Sprintf(`Software\SallyportTest%d-%s`, os.Getpid(), t.Name())
	t.Cleanup(func() { removeAll(t, path) })
	return path
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.ENUMERATE_SUB_KEYS|view)
	if err == registry.ErrNotExist {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	names, err := k.ReadSubKeyNames(0)
	k.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		removeAll(t, path+`\`+name)
	}
	if err := registry.DeleteKey(registry.LOCAL_MACHINE, path); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, path string) registry.Key {
	t.Helper()
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, path, registry.SET_VALUE|view)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAKeyIsReadWhole(t *testing.T) {
	path := scratch(t)
	if k, err := Read(hive + path); k != nil || err != nil {
		t.Fatalf("before it is there: %+v, %v", k, err)
	}
	k := create(t, path)
	must(t, k.SetDWordValue("number", 90))
	must(t, k.SetStringValue("text", "grün 😀"))
	must(t, create(t, path+`\Sub`).SetStringsValue("list", []string{"a", "b c"}))
	create(t, path+`\Sub\Empty`)
	got, err := Read(hive + path)
	must(t, err)
	if len(got.Values) != 2 || len(got.Keys) != 1 || got.Keys[0].Name != "Sub" || len(got.Keys[0].Key.Values) != 1 ||
		!reflect.DeepEqual(got.Keys[0].Key.Keys, []Subkey{{"Empty", Key{}}}) {
		t.Fatalf("%+v", got)
	}
	for _, v := range got.Values {
		if v.Name == "number" {
			if n, err := v.Number(); n != 90 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		} else if s, err := v.Text(); s != "grün 😀" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
	}
	if list, err := got.Keys[0].Key.Values[0].Texts(); !reflect.DeepEqual(list, []string{"a", "b c"}) || err != nil {
		t.Errorf("%q, %v", list, err)
	}
}

func TestTooMuchIsRefused(t *testing.T) {
	path := scratch(t)
	k := create(t, path)
	must(t, k.SetBinaryValue("long", bytes.Repeat([]byte{1}, maxData)))
	if _, err := Read(hive + path); err != nil {
		t.Errorf("the longest: %v", err)
	}
	must(t, k.SetBinaryValue("long", bytes.Repeat([]byte{1}, maxData+1)))
	if got, err := Read(hive + path); err == nil {
		t.Errorf("%d values", len(got.Values))
	}
	must(t, k.DeleteValue("long"))
	deep := path
	for range maxDepth {
		deep += `\d`
	}
	create(t, deep)
	if _, err := Read(hive + path); err == nil {
		t.Error("any depth is read")
	}
}

// TestEveryChangeIsSeen: of the key before it is there, of what is in it, of its
// end and its return.
func TestEveryChangeIsSeen(t *testing.T) {
	path := scratch(t)
	state := func() string {
		k, err := Read(hive + path)
		return fmt.Sprintf("%+v, %v", k, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 100) // what there is at each call
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, hive+path+`\A\B`, func() { seen <- state() }) }()
	wait := func(what, want string) {
		t.Helper()
		deadline := time.After(time.Minute)
		for {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case err := <-ended:
				t.Fatalf("%s: the watch ended: %v", what, err)
			case <-deadline:
				t.Fatalf("%s, and nobody was told", what)
			}
		}
	}
	last := state()
	wait("the beginning", last)
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"the key is made, and those above it", func() { create(t, path+`\A\B`).Close() }},
		{"a value is set", func() { must(t, create(t, path+`\A\B`).SetDWordValue("x", 1)) }},
		{"it is set to another", func() { must(t, create(t, path+`\A\B`).SetDWordValue("x", 2)) }},
		{"a value is set two keys below", func() { must(t, create(t, path+`\A\B\C\D`).SetStringValue("y", "z")) }},
		{"a key below is deleted", func() { removeAll(t, path+`\A\B\C`) }},
		{"the key is deleted", func() { removeAll(t, path+`\A`) }},
		{"it is made again", func() { must(t, create(t, path+`\A\B`).SetDWordValue("x", 3)) }},
	} {
		step.do()
		want := state()
		if want == last {
			t.Fatalf("%s: nothing has changed", step.what)
		}
		last = want
		wait(step.what, want)
	}
	cancel()
	select {
	case err := <-ended:
		must(t, err)
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

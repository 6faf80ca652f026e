package suggest

import "testing"

func TestFor(t *testing.T) {
	names := []string{"shards", "output", "batch", "base-lr", "save-every", "warmup-epoch", "epochs", "seed"}
	for typed, want := range map[string]string{
		"shard": "shards", "ouptut": "output", "epoch": "epochs", "bacth": "batch", "save_every": "save-every",
		"warmup-epochs": "warmup-epoch", "warm": "warmup-epoch", "sed": "seed", "seed": "seed",
		"x": "", "zz": "", "momentum": "", "": "",
	} {
		if want != "" {
			want = ", did you mean --" + want + "?"
		}
		if got := For(typed, "--", names); got != want {
			t.Errorf("for %q it suggests %q, want %q", typed, got, want)
		}
	}
}

"""From image files to pixels: one decoder, processes of it beside the training, and the pixels kept on the machine."""
